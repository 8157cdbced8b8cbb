use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

/// This machine's address towards the network.
#[must_use]
pub fn network_address() -> IpAddr {
    // Nothing is sent: connecting a UDP socket only chooses the address that it would be sent from.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let chosen = socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| socket.local_addr());
    let address = chosen.unwrap_or_else(|error| panic!("no address besides loopback: {error}")).ip();
    assert!(!address.is_loopback(), "this machine has no address besides loopback");
    address
}

/// A port that nobody listens on at the moment.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}
