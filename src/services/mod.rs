//! What services are told and what they say, as values: rendered configuration, statements,
//! parsed answers. Pure: inventory, facts and secrets in, text out; nothing here reaches a server.

pub mod balancer;
