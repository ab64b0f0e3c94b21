//! What an import comes to, judged by the parser of pilotfish's own config.

mod corpus;
