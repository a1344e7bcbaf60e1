//! The agent on a machine: sensors, containment, the local loop and the link to the hub.
