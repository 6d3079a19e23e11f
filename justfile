# Shorthands for what is done every day. `just --list` names them.

# Everything that CI checks.
test *names:
    scripts/test {{ names }}

# The main job on this machine, next to rsync.
demo *options:
    scripts/demo {{ options }}

# Formatting and lints only.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Rewrites what can be rewritten.
fix:
    cargo clippy --workspace --all-targets --locked --fix --allow-dirty
    cargo fmt --all

# Instruction counts, against those on record; `--renew` puts new ones there.
instructions *options:
    scripts/instructions {{ options }}

# The documentation of the crates, private items included.
doc:
    cargo doc --workspace --no-deps --document-private-items

# Licences, advisories and banned crates; needs cargo-deny.
deny:
    cargo deny --locked check
