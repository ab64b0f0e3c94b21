//! Where services are registered and dependencies seen: one enum `Backend`, one method per effect.
