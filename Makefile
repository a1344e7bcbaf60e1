# The two commands that matter: `make up` and `make test`.
.PHONY: up build test bench soak lint assets clean

# Builds Cordon and starts a hub and an agent on this machine, listening on loopback only.
up: build
	./target/release/cordon up $(ARGS)

build: assets
	cargo build --release --locked -p cordon -p cordon-helper

# The console's style sheet, from npm. Without npm the console is plain, and works.
assets:
	tools/install build
	tools/assets

# All tests. What needs root or network namespaces says that it was skipped where it can't run, or fails with
# CORDON_MUST_RUN=1.
test: assets
	tools/install test
	tools/tests

# Prints the measurements and writes target/bench/results.json.
bench: build
	tools/bench

# The long runs: thousands of seeds, hundreds of isolations, five million pairs of rules and events, a machine
# that restarts. By hand, before a release.
soak: build
	./target/release/cordon simulate --seeds 20000
	./target/release/cordon simulate --scenario stolen-hub --seeds 10000
	./target/release/cordon simulate --scenario wrong-rule --seeds 100
	./target/release/cordon drill outbreak --runs 200
	CORDON_ROUNDS=42000 cargo test -p cordon-detect --locked --test random -- --nocapture
	tools/install reboot
	cargo test -p cordon-tests --locked --test reboot -- --ignored

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

clean:
	cargo clean
