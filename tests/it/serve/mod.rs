//! Serving: web servers, databases, balancers and applications, all of them real.

mod app;
