# SPDX-License-Identifier: GPL-2.0-only
# Out-of-tree build of cachefiles.ko and ondemandfs.ko; "make help" lists all.

# A directory, or stock, stock-6.1, base, base-7.3, debug, kcsan or coverage for a kernel of
# scripts/setup.sh or scripts/build-kernel.sh.
KDIR	?= /lib/modules/$(shell uname -r)/build
ifneq ($(filter stock stock-% base base-% debug debug-% kcsan kcsan-% coverage coverage-% tree-%,$(KDIR)),)
override KDIR := $(shell scripts/kernel-path.sh build $(KDIR))
endif

ONDEMAND	?= y
DEBUG		?= n
ERROR_INJECTION	?= n
# Debian's 6.1 has another one in include/config/kernel.release than uname tells.
release		:= $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' $(KDIR)/include/generated/utsrelease.h 2>/dev/null)
BUILD		?= build/$(release)

options	:= CACHEFILES=m CACHEFILES_ONDEMAND=$(ONDEMAND) CACHEFILES_DEBUG=$(DEBUG) \
	   CACHEFILES_ERROR_INJECTION=$(ERROR_INJECTION) ONDEMANDFS=m
kbuild	= $(MAKE) -C $(KDIR) $(patsubst %=n,%=,$(addprefix CONFIG_,$(options))) \
	  $(if $(wildcard $(KDIR)/Module.symvers),,KBUILD_MODPOST_WARN=1) M=$(abspath $(BUILD))
probes	:= $(wildcard compat/probe/*)

modules: $(BUILD)/generated/compat-config.h $(if $(filter y,$(TEST_MODULES)),test_modules)
	@scripts/mirror.sh $(BUILD) $(options)
	+$(kbuild) modules

# Modules that only tests load; neither built nor installed unless asked for.
test_modules: $(BUILD)/generated/compat-config.h
	@scripts/mirror.sh $(BUILD) $(options)
	+$(kbuild)/test_modules modules

# What this kernel offers is asked once: until it has another configuration or release, or
# exports something else. What it has answered before would pass for the new answers.
$(BUILD)/generated/compat-config.h: $(probes) scripts/compat-config.sh $(BUILD)/generated/kdir \
		$(KDIR)/include/generated/autoconf.h \
		$(wildcard $(KDIR)/include/generated/utsrelease.h $(KDIR)/Module.symvers)
	@scripts/mirror.sh $(BUILD) $(options)
	@rm -f $(BUILD)/probe/*.probe
	+@$(MAKE) -C $(KDIR) M=$(abspath $(BUILD))/probe modules >$(BUILD)/probe.log 2>&1 || \
		{ cat $(BUILD)/probe.log; exit 1; }
	@scripts/compat-config.sh $(BUILD)

# Another kernel may be older, and come under the same name.
$(BUILD)/generated/kdir: FORCE
	@mkdir -p $(@D)
	@echo '$(realpath $(KDIR))' | cmp -s - $@ || echo '$(realpath $(KDIR))' >$@

$(KDIR)/include/generated/autoconf.h:
	@echo "$(or $(KDIR),KDIR): no prepared kernel build directory; give KDIR=, or run" \
		"scripts/setup.sh and give KDIR=stock" >&2; exit 1

modules_install: modules
	+$(kbuild) modules_install INSTALL_MOD_DIR=updates DEPMOD=: \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=)
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(release)

clean:
	rm -rf build
	+[ ! -f tools/testing/selftests/cachefiles/Makefile ] || \
		$(MAKE) -s -C tools/testing/selftests/cachefiles clean

check check-static check-vm check-debug check-kcsan:
	+scripts/check.sh $(patsubst check-%,%,$(@:check=all))

check-all:
	+scripts/check.sh matrix $(TESTS)

check-series:
	+scripts/check-series.sh

demo bench torture fuzz mutants coverage model:
	+scripts/$@.sh

series:
	+scripts/series.py

help:
	@cat scripts/help.txt

.PHONY: modules test_modules modules_install clean check check-static check-vm check-debug \
	check-kcsan check-all check-series demo bench torture fuzz mutants coverage model series help FORCE
.DELETE_ON_ERROR:
