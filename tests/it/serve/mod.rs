//! Services on real servers: web servers, PHP-FPM, and what fanout makes of them.

mod head;
mod web;
mod web_apache;
