#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Writes the patch series for a kernel tree: "make series KERNEL=TREE".

KERNEL=TREE  a git tree (its HEAD is what the series is for) or a plain source tree;
             without it, the newest source that setup.sh finds
OUT=DIR      where the patches and the cover letter go (default build/series)

The cachefiles of that tree is taken out, then ours is put in, in steps that build. Each
step is a function below and has its message in scripts/series. Files that the tree has
for more than us (Kconfig, Makefile, MAINTAINERS and indexes) are edited. The name under
"Signed-off-by" is that of the caller's git configuration.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent
MESSAGES = TOP / "scripts/series"
SELFTESTS = "tools/testing/selftests"
CACHING = "Documentation/filesystems/caching"
IOCTLS = "Documentation/userspace-api/ioctl/ioctl-number.rst"
ENTRY = "CACHEFILES: FS-CACHE BACKEND FOR CACHING ON MOUNTED FILESYSTEMS"
ONDEMAND = ("anon", "failover", "fetch", "ids", "io", "ondemand", "queue", "reap", "reply",
            "request", "trace")

# What the series touches, as far as the tree has it.
TOUCHED = ("MAINTAINERS", "fs/Kconfig", "fs/Makefile", "fs/cachefiles", "fs/ondemandfs",
           "include/trace/events/cachefiles.h", "include/uapi/linux/cachefiles.h", CACHING,
           IOCTLS, SELFTESTS + "/Makefile", SELFTESTS + "/cachefiles")


def die(text):
    sys.exit(f"series.py: {text}")


def run(*command, cwd=None, **more):
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True, **more)
    if done.returncode:
        die(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


class Tree:
    """The tree in the making: a git repository of nothing but what the series touches."""

    def __init__(self, where):
        self.where = pathlib.Path(where)

    def path(self, name):
        return self.where / name

    def git(self, *command):
        return run("git", *self.identity, *command, cwd=self.where)

    def begin(self, kernel):
        name = run("git", "config", "user.name", cwd=TOP).strip()
        mail = run("git", "config", "user.email", cwd=TOP).strip()
        self.identity = ("-c", f"user.name={name}", "-c", f"user.email={mail}")
        self.git("init", "-q")
        self.base = None
        probe = subprocess.run(("git", "rev-parse", "--verify", "HEAD"), cwd=kernel, text=True,
                               capture_output=True)
        if probe.returncode == 0 and (kernel / ".git").exists():
            self.base = probe.stdout.strip()
            names = run("git", "ls-tree", "-r", "--name-only", "HEAD", *TOUCHED,
                        cwd=kernel).split()
            pack = subprocess.Popen(("git", "archive", "HEAD", *names), cwd=kernel,
                                    stdout=subprocess.PIPE)
            subprocess.run(("tar", "-x"), cwd=self.where, stdin=pack.stdout, check=True)
        else:
            for name in TOUCHED:
                if (kernel / name).is_dir():
                    shutil.copytree(kernel / name, self.path(name))
                elif (kernel / name).exists():
                    self.path(name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(kernel / name, self.path(name))
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-m", "base")

    def commit(self, message):
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-F", MESSAGES / message)

    def edit(self, name, pattern, replacement, needed=True):
        """Replace the one place where PATTERN matches."""
        text = self.path(name).read_text()
        text, count = re.subn(pattern, replacement, text, count=1, flags=re.M)
        if needed and not count:
            die(f"{name}: nothing matches {pattern!r}")
        self.path(name).write_text(text)

    def put(self, *names):
        """Our files, by name or directory; of a directory, what git tracks."""
        for name in run("git", "ls-files", "--", *names, cwd=TOP).split("\n"):
            if name:
                self.path(name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, self.path(name))

    def remove(self, *names):
        for name in names:
            path = self.path(name)
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()

    def maintain(self, *patterns):
        """Add file patterns to our entry in MAINTAINERS, in their order."""
        lines = self.path("MAINTAINERS").read_text().split("\n")
        start = lines.index(ENTRY)
        end = lines.index("", start)
        files = [f"F:\t{pattern}" for pattern in patterns]
        files += [line for line in lines[start:end] if line.startswith("F:")]
        rest = [line for line in lines[start:end] if not line.startswith("F:")]
        lines[start:end] = rest + sorted(set(files))
        self.path("MAINTAINERS").write_text("\n".join(lines))


def ours(name):
    return (TOP / name).read_text()


def remove(tree):
    tree.remove("fs/cachefiles", "include/trace/events/cachefiles.h",
                "include/uapi/linux/cachefiles.h", f"{CACHING}/cachefiles.rst",
                f"{SELFTESTS}/cachefiles")
    tree.edit("fs/Kconfig", r'^source "fs/cachefiles/Kconfig"\n', "")
    tree.edit("fs/Makefile", r"^obj-\$\(CONFIG_CACHEFILES\)\s.*\n", "")
    tree.edit(f"{CACHING}/index.rst", r"^   cachefiles\n", "")
    text = tree.path("MAINTAINERS").read_text()
    if ENTRY not in text.split("\n"):
        die("MAINTAINERS: no entry for cachefiles")
    tree.edit("MAINTAINERS", rf"(^{re.escape(ENTRY)}\n(?:[^F\n].*\n)*)(?:F:.*\n)+", r"\1")


def uapi(tree):
    tree.put("include/uapi/linux/cachefiles.h")
    number = f"{'0x98  01     include/uapi/linux/cachefiles.h':<71}CacheFiles"
    tree.edit(IOCTLS, r"(^0x97 .*\n)", rf"\g<1>{number}\n")
    tree.maintain("include/uapi/linux/cachefiles.h")


def base(tree):
    tree.put("fs/cachefiles")
    tree.remove(*(f"fs/cachefiles/{name}.c" for name in ONDEMAND), "fs/cachefiles/trace.h")
    tree.edit("fs/cachefiles/Kconfig", r"\nconfig CACHEFILES_ONDEMAND\n(?:\t.*\n|\n(?=\t))*", "")
    tree.edit("fs/cachefiles/Makefile",
              r"\ncachefiles-\$\(CONFIG_CACHEFILES_ONDEMAND\) \+= \\\n(?:\t.*\n)*", "")
    tree.edit("fs/cachefiles/Makefile", r"^# The tracepoints .*\n.*trace\.o.*\n\n", "")
    tree.edit("fs/Kconfig", r'(^source "fs/netfs/Kconfig"\n)',
              r'\1source "fs/cachefiles/Kconfig"\n')
    tree.edit("fs/Makefile", r"(^obj-\$\(CONFIG_DEBUG_FS\)\s.*\n)",
              r"obj-$(CONFIG_CACHEFILES)	+= cachefiles/\n\1")
    tree.maintain("fs/cachefiles/")


def ondemand(tree):
    tree.put("fs/cachefiles")
    shutil.copy(MESSAGES / "failover.c", tree.path("fs/cachefiles/failover.c"))


def failover(tree):
    tree.put("fs/cachefiles/failover.c")


def ondemandfs(tree):
    tree.put("fs/ondemandfs")
    tree.edit("fs/Kconfig", r'(^source "fs/cachefiles/Kconfig"\n)',
              r'\1source "fs/ondemandfs/Kconfig"\n')
    tree.edit("fs/Makefile", r"(^obj-\$\(CONFIG_CACHEFILES\)\s.*\n)",
              r"\1obj-$(CONFIG_ONDEMANDFS)	+= ondemandfs/\n")
    tree.maintain("fs/ondemandfs/")


def documentation(tree):
    tree.put(CACHING)
    tree.path(f"{CACHING}/index.rst").open("a").write(
        "   cachefiles\n   cachefiles-ondemand\n   cachefiles-design\n   ondemandfs\n")
    tree.maintain(f"{CACHING}/cachefiles*.rst", f"{CACHING}/ondemandfs.rst")


def selftests(tree):
    tree.put(f"{SELFTESTS}/cachefiles")
    name = f"{SELFTESTS}/Makefile"
    lines = tree.path(name).read_text().split("\n")
    target = "TARGETS += cachefiles"
    at = next(i for i, line in enumerate(lines) if line.startswith("TARGETS += ") and line > target)
    lines.insert(at, target)
    tree.path(name).write_text("\n".join(lines))
    tree.maintain(f"{SELFTESTS}/cachefiles/")


STEPS = (remove, uapi, base, ondemand, failover, ondemandfs, documentation, selftests)


def cover(out, tree):
    letter = next(out.glob("0000-*"))
    subject, _, body = (MESSAGES / "cover").read_text().partition("\n")
    text = letter.read_text()
    text = text.replace("*** SUBJECT HERE ***", subject)
    text = text.replace("*** BLURB HERE ***", body.strip())
    if tree.base:
        head, sep, tail = text.rpartition("\n-- \n")
        text = f"{head}\n\nbase-commit: {tree.base}{sep}{tail}"
    letter.write_text(text)


def main():
    kernel = os.environ.get("KERNEL")
    out = pathlib.Path(os.environ.get("OUT") or TOP / "build/series").resolve()
    if not kernel:
        setup = subprocess.run((TOP / "scripts/setup.sh", "source-newest"), text=True,
                               stdout=subprocess.PIPE, check=False)
        if setup.returncode:
            die("no kernel source; give KERNEL=TREE")
        kernel = setup.stdout.strip()
    kernel = pathlib.Path(kernel).resolve()
    if not (kernel / "fs/Kconfig").exists() or not (kernel / "MAINTAINERS").exists():
        die(f"{kernel}: not a kernel tree")
    with tempfile.TemporaryDirectory() as where:
        tree = Tree(where)
        tree.begin(kernel)
        first = tree.git("rev-parse", "HEAD").strip()
        for number, step in enumerate(STEPS, 1):
            step(tree)
            tree.commit(f"{number:02}-{step.__name__}")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        tree.git("format-patch", "-q", "--signoff", "--cover-letter", "--no-renames", "-o",
                 str(out), first)
    cover(out, tree)
    print(*sorted(out.iterdir()), sep="\n")


if __name__ == "__main__":
    main()
