//! First contact: installs fanout on a server over the system's ssh and exchanges keys.
