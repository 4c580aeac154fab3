//! Parsing and emitting together; each payload by hand-written bytes in its own file.
