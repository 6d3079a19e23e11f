//! Every failure is told apart, in bounded time.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_port_where_nothing_listens_says_so_at_once() {
    for carrier in [Carrier::Quic4, Carrier::Quic6] {
        let address = std::net::UdpSocket::bind(loopback(carrier))
            .unwrap()
            .local_addr()
            .unwrap();
        let start = std::time::Instant::now();
        let error = connect_to(&[address], &node(), node().key(), &quick(3000))
            .await
            .unwrap_err();
        assert!(matches!(error, NetError::NothingListens { .. }), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{:?}",
            start.elapsed()
        );
        assert!(error.hint().unwrap().contains("start the agent"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_reported_as_a_firewall_in_the_time_given() {
    for carrier in [Carrier::Quic4, Carrier::Quic6] {
        let silent = std::net::UdpSocket::bind(loopback(carrier)).unwrap();
        let address = silent.local_addr().unwrap();
        let start = std::time::Instant::now();
        let error = connect_to(&[address], &node(), node().key(), &quick(700))
            .await
            .unwrap_err();
        assert!(matches!(error, NetError::NoAnswer { .. }), "{error}");
        assert!(
            start.elapsed() < Duration::from_millis(1500),
            "{:?}",
            start.elapsed()
        );
        let hint = error.hint().unwrap();
        assert!(
            hint.contains(&format!("UDP port {}", address.port())),
            "{hint}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_are_tried_and_the_first_right_one_wins() {
    let (hub, agent, trust) = (node(), node(), TrustStore::new());
    trust.accept(hub.key(), Role::Hub);
    let key = agent.key();
    let endpoint =
        Endpoint::server(loopback(Carrier::Quic6), agent, trust, Options::default()).unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap(), endpoint.address()];
    let start = std::time::Instant::now();
    let connection = connect_to(&addresses, &hub, key, &Options::default())
        .await
        .unwrap();
    assert_eq!(connection.remote(), endpoint.address().to_string());
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    // By name: localhost has addresses of one or both families.
    let port = endpoint.address().port();
    assert!(
        soon(connect("::1", port, &hub, key, &Options::default()))
            .await
            .is_ok()
    );
    let error = connect("nowhere.invalid", port, &hub, key, &quick(3000))
        .await
        .unwrap_err();
    let expected = matches!(error, NetError::Resolve { .. } | NetError::TimedOut { .. });
    assert!(expected, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dual_stack_listener_serves_ipv4() {
    let (hub, agent, trust) = (node(), node(), TrustStore::new());
    trust.accept(hub.key(), Role::Hub);
    let key = agent.key();
    let any = "[::]:0".parse().unwrap();
    let endpoint = Endpoint::server(any, agent, trust, Options::default()).unwrap();
    let port = endpoint.address().port();
    for host in ["127.0.0.1", "::1", "localhost"] {
        soon(connect(host, port, &hub, key, &Options::default()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_above_the_receivers_limit_ends_the_connection() {
    for carrier in CARRIERS {
        let strict = Options {
            control_max_bytes: 1000,
            ..Options::default()
        };
        let pair = pair_with(carrier, Options::default(), strict).await;
        pair.hub.send(&[0; 1000]).await.unwrap();
        assert_eq!(soon(pair.agent.recv()).await.unwrap().len(), 1000);
        pair.hub.send(&[0; 1001]).await.unwrap();
        let error = soon(pair.agent.recv()).await.unwrap_err();
        let limit = NetError::Limit {
            what: "A control message",
            limit_bytes: 1000,
            announced_bytes: 1001,
        };
        assert_eq!(error.to_string(), limit.to_string(), "{carrier:?}");
        let told = soon(pair.hub.recv()).await.unwrap_err();
        assert!(
            matches!(told, NetError::Closed { code: 2, .. }),
            "{carrier:?}: {told}"
        );
        let own = pair
            .hub
            .send(&vec![0; limits::CONTROL_MAX_BYTES + 1])
            .await
            .unwrap_err();
        assert!(matches!(own, NetError::Limit { .. }), "{own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_above_the_receivers_limit_is_stopped_and_the_next_one_arrives() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let hub = pair.hub.clone();
        // More than any window holds, so the sender is still at it when it is stopped.
        let large =
            tokio::spawn(async move { hub.send_object(b"large", pattern(90_000_000)).await });
        let error = soon(pair.agent.recv_object(1_000_000)).await.unwrap_err();
        assert!(
            matches!(
                error,
                NetError::Limit {
                    announced_bytes: 90_000_000,
                    ..
                }
            ),
            "{error}"
        );
        let stopped = soon(large).await.unwrap().unwrap_err();
        assert!(
            matches!(stopped, NetError::ObjectStopped { code: 2 }),
            "{carrier:?}: {stopped}"
        );
        // Again and again: stopped objects give their places back.
        for _ in 0..20 {
            let sending = pair.hub.send_object(b"large", pattern(2_000_000));
            let (_, refused) =
                soon(async { tokio::join!(sending, pair.agent.recv_object(1_000_000)) }).await;
            assert!(
                matches!(refused, Err(NetError::Limit { .. })),
                "{carrier:?}: {refused:?}"
            );
        }
        pair.hub.send_object(b"small", pattern(10)).await.unwrap();
        let small = soon(pair.agent.recv_object(1_000_000)).await.unwrap();
        assert_eq!(small.header, "small", "{carrier:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_breaks_is_a_lost_connection() {
    let (hub, agent, trust) = (node(), node(), TrustStore::new());
    trust.accept(hub.key(), Role::Hub);
    let (near, middle_near) = tokio::io::duplex(64 * 1024);
    let (middle_far, far) = tokio::io::duplex(64 * 1024);
    let carrying = tokio::spawn(async move {
        let (mut a, mut b) = (middle_near, middle_far);
        tokio::io::copy_bidirectional(&mut a, &mut b).await
    });
    let options = Options::default();
    let server = Side::Server(&trust);
    let (hub, agent) = tokio::join!(
        Connection::over_pipe(near, "near", &hub, Side::Client(agent.key()), &options),
        Connection::over_pipe(far, "far", &agent, server, &options),
    );
    let (hub, agent) = (hub.unwrap(), agent.unwrap());
    hub.send(b"hello").await.unwrap();
    soon(agent.recv()).await.unwrap();
    carrying.abort();
    for side in [hub, agent] {
        let error = soon(side.recv()).await.unwrap_err();
        assert!(matches!(error, NetError::Lost { .. }), "{error}");
        assert!(soon(side.send_object(b"", pattern(10))).await.is_err());
    }
}
