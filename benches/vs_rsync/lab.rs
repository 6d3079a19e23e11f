//! The network: members in namespaces of their own behind a switch, and the hub in front of it,
//! directly or over a wide-area link.
//!
//! This process's own namespace is the hub's. Every byte between hub and members crosses one
//! interface of it, `uplink`, where it is counted. Addresses: the switch is 10.99.0.1, the hub
//! 10.99.0.2 (or 10.98.0.1 behind the link), member number N 10.99.1.N.

use crate::link::{Link, Wide};
use crate::shell::run;
use anyhow::Result;
use std::net::Ipv4Addr;

const SWITCH: &str = "switch";

/// A network that is gone when it is dropped.
pub(crate) struct Lab {
    members: usize,
    link: Option<Link>,
}

impl Lab {
    /// Plugs everything in. `congestion` is the kernel's congestion control on all machines: of
    /// their routes, since a namespace may not choose freely among those of the kernel.
    pub(crate) fn new(members: usize, wide: Option<Wide>, congestion: &str) -> Result<Self> {
        // From here on it is taken down again whatever happens.
        let mut lab = Self {
            members,
            link: None,
        };
        run(&["ip", "netns", "add", SWITCH])?;
        in_switch(&["ip", "link", "set", "lo", "up"])?;
        in_switch(&["ip", "link", "add", "br0", "type", "bridge"])?;
        in_switch(&["ip", "address", "add", "10.99.0.1/16", "dev", "br0"])?;
        in_switch(&["ip", "link", "set", "br0", "up"])?;
        if let Some(wide) = wide {
            lab.link = Some(connect_far(wide, congestion)?);
        } else {
            connect_near(congestion)?;
        }
        for number in 1..=members {
            plug_in(number, wide.is_some(), congestion)?;
        }
        Ok(lab)
    }

    /// The hub's interface that everything crosses.
    pub(crate) fn uplink(&self) -> &'static str {
        if self.link.is_some() { "wan0" } else { "up0" }
    }

    /// The hub's address.
    pub(crate) fn hub_address(&self) -> &'static str {
        if self.link.is_some() {
            "10.98.0.1"
        } else {
            "10.99.0.2"
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Interfaces go with their namespaces, and their other ends with them.
        let _gone = run(&["ip", "link", "delete", self.uplink()]);
        for number in 1..=self.members {
            let _gone = run(&["ip", "netns", "delete", &namespace(number)]);
        }
        let _gone = run(&["ip", "netns", "delete", SWITCH]);
    }
}

/// A member's address.
pub(crate) fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 1, u8::try_from(number).unwrap_or(u8::MAX))
}

/// The words before a command that shall run in a member's network.
pub(crate) fn enter(number: usize) -> [String; 3] {
    let at = format!("--net=/run/netns/{}", namespace(number));
    ["nsenter".to_owned(), at, "--".to_owned()]
}

fn namespace(number: usize) -> String {
    format!("m{number}")
}

fn connect_near(congestion: &str) -> Result<()> {
    let peer = ["peer", "name", "hub0", "netns", SWITCH];
    run(&[&["ip", "link", "add", "up0", "type", "veth"][..], &peer].concat())?;
    in_switch(&["ip", "link", "set", "hub0", "master", "br0", "up"])?;
    run(&["ip", "address", "add", "10.99.0.2/16", "dev", "up0"])?;
    run(&["ip", "link", "set", "up0", "up"])?;
    let route = ["ip", "route", "replace", "10.99.0.0/16", "dev", "up0"];
    run(&[&route[..], &["src", "10.99.0.2", "congctl", congestion]].concat())
}

fn connect_far(wide: Wide, congestion: &str) -> Result<Link> {
    let link = Link::start(wide, &format!("/run/netns/{SWITCH}"))?;
    run(&["ip", "address", "add", "10.98.0.1/30", "dev", "wan0"])?;
    run(&["ip", "link", "set", "wan0", "mtu", "1500", "up"])?;
    let route = ["ip", "route", "add", "default", "via", "10.98.0.2"];
    run(&[&route[..], &["congctl", congestion]].concat())?;
    in_switch(&["ip", "address", "add", "10.98.0.2/30", "dev", "wan0"])?;
    in_switch(&["ip", "link", "set", "wan0", "mtu", "1500", "up"])?;
    in_switch(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
    let rate = format!("{}mbit", wide.mbit);
    let shape = [
        "tc", "qdisc", "add", "dev", "wan0", "root", "tbf", "rate", &rate,
    ];
    let shape = [&shape[..], &["burst", "32kb", "latency", "100ms"]].concat();
    run(&shape)?;
    in_switch(&shape)?;
    Ok(link)
}

fn plug_in(number: usize, is_far: bool, congestion: &str) -> Result<()> {
    let (name, cable) = (namespace(number), format!("port{number}"));
    run(&["ip", "netns", "add", &name])?;
    let peer = ["peer", "name", "eth0", "netns", &name];
    in_switch(&[&["ip", "link", "add", &cable, "type", "veth"][..], &peer].concat())?;
    in_switch(&["ip", "link", "set", &cable, "master", "br0", "up"])?;
    let inside = |words: &[&str]| run(&[&["ip", "-n", &name][..], words].concat());
    inside(&["link", "set", "lo", "up"])?;
    let own = format!("{}/16", address(number));
    inside(&["address", "add", &own, "dev", "eth0"])?;
    inside(&["link", "set", "eth0", "up"])?;
    let near = ["route", "replace", "10.99.0.0/16", "dev", "eth0"];
    let own = address(number).to_string();
    inside(&[&near[..], &["src", &own, "congctl", congestion]].concat())?;
    if is_far {
        let far = ["route", "add", "default", "via", "10.99.0.1"];
        inside(&[&far[..], &["congctl", congestion]].concat())?;
    }
    Ok(())
}

fn in_switch(words: &[&str]) -> Result<()> {
    let at = format!("--net=/run/netns/{SWITCH}");
    run(&[&["nsenter", &at, "--"][..], words].concat())
}
