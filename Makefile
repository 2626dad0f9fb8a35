# Every target in one or two lines; `make help` lists them.
GO       ?= go
VERSION  ?= $(or $(patsubst v%,%,$(shell git describe --tags --match "v*" 2>/dev/null)),0.1.0~dev)
PREFIX   ?= /usr/local
SYSCONF  ?= /etc
DESTDIR  ?=
DIST     ?= dist
FUZZTIME ?= 10s
COUNT    ?= 20
SOAK     ?= 5m
NFPM     := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.41.3
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# As root on Debian the package is tried in a container with a systemd of its own.
BOOTED   := $(shell test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo 1)
# Modules of their own: peers and tools, which never enter the product's go.mod.
MODULES  := $(filter-out integration/tools,$(patsubst %/go.mod,%,$(wildcard integration/*/go.mod idempotency/*/go.mod)))

# What a process that calls has of us, on any system.
CLIENTSIDE := ./transport/... ./agent/client ./agent/page ./agent/wire ./fallbackcache/... ./policies/... ./idempotency/...

.DEFAULT_GOAL := help
.PHONY: help demo test race container promtool tmux cross modules redis fuzz bench soak lint install deb

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: ## See it work: real processes on one host, an upstream that fails, at most 60 s, no root
	$(GO) run ./cmd/resagent demo $(DEMOFLAGS)

test: lint cross race modules ## Prove it: everything that CI proves

race: container promtool tmux ## Test all packages under the race detector
	BOOTED=$(BOOTED) $(GO) test -race -timeout 15m ./...

container: # What the test in a booted systemd needs; BOOTED is empty where it cannot run
	@test -z "$(BOOTED)" || { command -v systemd-nspawn && command -v mmdebstrap; } >/dev/null || { \
	  apt-get update -q && apt-get install -qy --no-install-recommends systemd-container mmdebstrap; }

promtool: # What checks metrics, alerts and their tests, where it can be fetched; nothing is installed
	@test -z "$(BOOTED)" || command -v promtool bin/promtool >/dev/null || $(MAKE) bin/promtool

tmux: # What top is tried in, where it can be installed
	@test -z "$(BOOTED)" || command -v tmux >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends tmux; }

bin/promtool:
	@mkdir -p bin && d=$$(mktemp -d) && chmod 755 $$d && { test -n "$$(apt-cache policy prometheus 2>/dev/null)" || apt-get update -q; } && (cd $$d && apt-get download -q prometheus) && \
	  dpkg-deb --fsys-tarfile $$d/prometheus_*.deb | tar -x -C bin --strip-components 3 ./usr/bin/promtool; r=$$?; rm -rf "$$d"; exit $$r

cross: ## Vet the packages of the client's side, and their tests, for the systems that have no agent
	GOOS=darwin $(GO) vet $(CLIENTSIDE)
	GOOS=windows $(GO) vet $(CLIENTSIDE)

modules: redis ## Vet and test the modules of their own: integration/*, idempotency/redisstore
	@set -e; for m in $(MODULES); do echo "$$m"; (cd $$m && $(GO) vet ./...); \
	  test $$m != idempotency/redisstore || command -v redis-server >/dev/null || { echo "NOT TESTED: $$m needs redis-server (Debian: apt-get install redis-server)"; continue; }; \
	  (cd $$m && $(GO) test ./...); done

redis: # What idempotency/redisstore is tried with, where it can be installed
	@test -z "$(BOOTED)" || command -v redis-server >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends redis-server; }

fuzz: ## Fuzz each target, of the modules too, for FUZZTIME (10s)
	@for m in . $(MODULES); do (cd $$m && $(GO) list ./... | while read -r p; do $(GO) test -list '^Fuzz' $$p | grep '^Fuzz' | while read -r f; do \
	  echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p </dev/null || exit 1; done || exit 1; done) || exit 1; done

bench: ## Measure, beside the peers, in one run (about 15 minutes), and write docs/PERFORMANCE.md and its plots
	$(GO) run -C integration/bench . $(BENCHFLAGS)

soak: ## Run 1,000,000 steps of the model, a disk store of 1,000,000 answers (4 GiB of TMPDIR), 10,000 charges through SIGKILLs, the tests over processes COUNT (20) times, then kills and restarts for SOAK (5m; 1h and more for the slopes of memory, goroutines, descriptors)
	STEPS=1000000 $(GO) test -v -count 1 -timeout 30m -run ManySteps ./agent
	ENTRIES=1000000 $(GO) test -v -count 1 -timeout 2h -run DiskOfMany ./fallbackcache
	CHARGES=10000 $(GO) test -v -count 1 -timeout 60m -run 'ThroughKills|WithoutATransaction' ./idempotency/sqlitestore
	SOAK= $(GO) test -count $(COUNT) -timeout 4h ./agent/... ./integration/... ./cmd/...
	SOAK=$(SOAK) $(GO) test -race -v -count 1 -timeout 48h -run 'BulkheadThroughKills|FolderThroughKills' ./integration
	SOAK=$(SOAK) $(GO) test -v -count 1 -timeout 48h -run 'SlopesStayFlat|UsersThroughKills|RateLimitOfMany|Outage$$|Amplif|CircuitsFollow' ./integration

lint: bin/staticcheck ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -d . ; exit 1; }
	$(GO) vet ./... && ./bin/staticcheck ./...

bin/staticcheck: integration/tools/go.mod
	$(GO) build -C integration/tools -o ../../bin/staticcheck honnef.co/go/tools/cmd/staticcheck

install: ## Install binary, units and a first policy file under DESTDIR, PREFIX (/usr/local), SYSCONF (/etc)
	$(BUILD) -o bin/resagent ./cmd/resagent
	install -D -m 755 bin/resagent $(DESTDIR)$(PREFIX)/bin/resagent
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(SYSCONF)/resagent/policies.d
	sed 's|/usr/bin/|$(PREFIX)/bin/|' systemd/resagent.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/resagent.service
	install -m 644 systemd/resagent.socket systemd/resagent-admin.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -D -m 644 systemd/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/resagent.conf
	$(MAKE) bin/share/resagent.1
	install -D -m 644 bin/share/resagent.1 $(DESTDIR)$(PREFIX)/share/man/man1/resagent.1
	install -D -m 644 bin/share/resagent-policies.5 $(DESTDIR)$(PREFIX)/share/man/man5/resagent-policies.5
	install -D -m 644 bin/share/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/resagent
	install -D -m 644 bin/share/zsh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_resagent
	install -D -m 644 bin/share/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/resagent.fish
	install -d $(DESTDIR)$(PREFIX)/share/resagent
	install -m 644 systemd/prometheus/alerts.yaml systemd/prometheus/dashboard.json $(DESTDIR)$(PREFIX)/share/resagent/
	install -m 644 docs/openapi.yaml $(DESTDIR)$(PREFIX)/share/resagent/
	install -m 644 policies/policyfile/schema.json $(DESTDIR)$(PREFIX)/share/resagent/policies.schema.json
	test -e $(DESTDIR)$(SYSCONF)/resagent/policies.yaml || sed 's|/usr/share/|$(PREFIX)/share/|' systemd/policies.yaml | install -m 644 /dev/stdin $(DESTDIR)$(SYSCONF)/resagent/policies.yaml

bin/resagent: # For a dry run of what needs it; install and deb build it anew
	$(BUILD) -o $@ ./cmd/resagent

# What the binary says of itself, and is installed beside it.
bin/share/resagent.1: bin/resagent
	@mkdir -p bin/share && for s in bash zsh fish; do ./bin/resagent completion $$s > bin/share/$$s || exit 1; done
	@RESAGENT_SOCKET= ./bin/resagent __man > $@ && ./bin/resagent __man-policies > bin/share/resagent-policies.5 && gzip -9nkf $@ bin/share/resagent-policies.5

deb: ## Build dist/resagent_*.deb
	$(BUILD) -o bin/resagent ./cmd/resagent && mkdir -p $(DIST)
	$(MAKE) bin/share/resagent.1
	VERSION=$(VERSION) ARCH=$(shell $(GO) env GOARCH) GOFLAGS= $(GO) run $(NFPM) package -f systemd/nfpm.yaml -p deb -t $(DIST)/
