//! The ground itself: test hosts are apart from this machine and from each other.

use crate::support::netns::Lab;
use crate::support::root_or_skip;
use crate::support::run::{USUAL_TIME, wait_until};
use crate::support::sshd::Sshd;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

#[test]
fn netns_hosts_write_nothing_here_and_take_their_processes_along() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("web1").with_fanout().start();
    let marker = format!("/usr/local/fanout-marker-{}", std::process::id());
    host.write(&marker, "x");
    assert_eq!(host.run(&["cat", &marker]).success().text(), "x");
    assert!(!Path::new(&marker).exists());
    assert_eq!(host.run(&["hostname"]).success().text(), "web1\n");
    assert_eq!(
        host.run(&["sh", "-c", "ls -A ~; pwd"]).success().text(),
        "/root\n"
    );
    host.run(&["test", "-x", "/usr/local/bin/fanout"]).success();
    // A daemon that outlives the command that started it, but not its host.
    host.sh("setsid sleep 4321 >/dev/null 2>&1 &").success();
    let daemon_runs = || host_processes(host.init_pid()).contains("sleep");
    assert!(wait_until(USUAL_TIME, daemon_runs));
    let mut running = host.spawn(&["sh", "-c", "echo up; exec sleep 8765"]);
    running.wait_for("up", USUAL_TIME);
    running.kill();
    let sleepers = host
        .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        .success()
        .text();
    assert!(
        sleepers.contains("4321") && !sleepers.contains("sleep 8765"),
        "{sleepers}"
    );
    let inside = host.path("/");
    drop(host);
    assert!(!inside.exists());
}

#[test]
fn netns_rules_stop_udp_and_nothing_else() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let (hub, web1) = (lab.plain_host("hub"), lab.plain_host("web1"));
    let udp_arrives = |to: IpAddr| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let receiver = web1.in_network(|| UdpSocket::bind(any)).unwrap();
        let sender = hub.in_network(|| UdpSocket::bind(any)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let port = receiver.local_addr().unwrap().port();
        // A rule for what leaves or a network that is gone may refuse at once.
        let _sent = sender.send_to(b"x", (to, port));
        receiver.recv(&mut [0; 9]).is_ok()
    };
    let tcp_connects = || {
        let listener = web1.in_network(|| TcpListener::bind("0.0.0.0:0")).unwrap();
        let address = SocketAddr::new(web1.address(), listener.local_addr().unwrap().port());
        let limit = Duration::from_millis(500);
        hub.in_network(|| TcpStream::connect_timeout(&address, limit))
            .is_ok()
    };
    assert!(tcp_connects() && udp_arrives(web1.address()) && udp_arrives(web1.address6()));
    web1.drop_udp();
    assert!(tcp_connects() && !udp_arrives(web1.address()) && !udp_arrives(web1.address6()));
    web1.mend();
    assert!(udp_arrives(web1.address()));
    web1.cut();
    assert!(!tcp_connects() && !udp_arrives(web1.address()));
    web1.lose(0);
    assert!(tcp_connects() && udp_arrives(web1.address()));
    web1.lose(50);
    let arrived = (0..20).filter(|_| udp_arrives(web1.address())).count();
    assert!((1..20).contains(&arrived), "{arrived} of 20 at 50 % loss");
    web1.mend();
    web1.limit_rate(20);
    assert!(tcp_connects() && udp_arrives(web1.address()));
    assert!(
        UdpSocket::bind((web1.address(), 0)).is_err(),
        "the address is this machine's"
    );
}

#[test]
fn netns_ssh_works_directly_and_through_a_jump_host() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let hub = lab.host("hub").start();
    let jump = lab.host("jump").on("outer").on("inner").start();
    let web1 = lab.host("web1").on("inner").start();
    web1.add_user("admin", true);
    let (jump_sshd, web1_sshd) = (Sshd::start(&jump), Sshd::start(&web1));
    web1_sshd.admit_through(&jump_sshd, "root", &hub, "admin");
    let inner = SocketAddr::new(web1.address(), 22);
    let limit = Duration::from_millis(500);
    assert!(
        hub.in_network(|| TcpStream::connect_timeout(&inner, limit))
            .is_err()
    );
    hub.run(&["ssh", "-o", "BatchMode=yes", "root@jump", "hostname"])
        .success();
    let there = hub.run(&[
        "ssh",
        "-o",
        "BatchMode=yes",
        "admin@web1",
        "hostname; id -un",
    ]);
    assert_eq!(there.success().text(), "web1\nadmin\n");
    let as_root = hub.run(&["ssh", "-o", "BatchMode=yes", "admin@web1", "sudo -n id -un"]);
    assert_eq!(as_root.success().text(), "root\n");
    hub.run(&["ssh", "-o", "BatchMode=yes", "root@web1", "true"])
        .exits(255);
}

/// The names of the processes in the namespace of `init_pid`, by way of /proc.
fn host_processes(init_pid: u32) -> String {
    let own = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = own(&init_pid.to_string());
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let inside = pids.filter(|pid| own(pid) == wanted && wanted.is_some());
    inside
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .collect()
}
