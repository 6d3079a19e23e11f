//! Applications of Debian's packages, installed, updated and run by the clock on a real MariaDB, by
//! an agent on a host of its own.

mod commands;
mod ground;
mod install;
mod others;
mod uploads;
