//! Where a running agent is asked and what it answers: the control socket and its commands, telemetry, the log.

mod command_line;
mod sensors;
mod sockets;
