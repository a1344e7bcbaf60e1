//! The console: server-rendered pages for the person at 3 a.m.; it proposes, and never signs.

#![forbid(unsafe_code)]
