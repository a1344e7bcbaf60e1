//! The hub: links to agents, incidents at work, enrolment, the API, and the signer in a process of its own.

#![forbid(unsafe_code)]
