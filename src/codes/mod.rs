//! Stable error codes, each with a page in `docs/errors/`.
