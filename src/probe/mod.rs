//! Health questions asked by the agent itself, without a child process.
