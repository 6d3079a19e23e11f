//! Services: real web servers, databases, balancers and applications on hosts of a lab.

mod app;
mod balancer;
mod database;
mod database_commands;
mod edge;
mod farm;
mod faults;
mod from_aegir;
mod head;
mod kinds;
mod load;
mod policy;
mod setup_db;
mod story;
mod visitors;
mod web;
mod web_apache;
mod web_setup;
