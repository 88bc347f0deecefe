//! Tests through the built binary.
