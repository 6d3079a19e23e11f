//! Services: real web servers, balancers and databases on hosts of a lab.

mod balancer;
mod load;
