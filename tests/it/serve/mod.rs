//! Services: real web servers, databases, balancers and applications on hosts of a lab.

mod app;
mod balancer;
mod database;
mod load;
mod setup_db;
