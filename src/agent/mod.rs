//! The daemon on a server: serves sessions, authorises peers, owns the trees bound to it.
