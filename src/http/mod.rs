//! Our own doors: control and telemetry, and the client that talks to them.
