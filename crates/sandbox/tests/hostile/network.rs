//! Talking to the outside: every listener is this test's own, on the loopback.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use crate::{attempts, everywhere, nothing_done};

#[test]
fn network() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let path = dir.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for nonblocking in [tcp.set_nonblocking(true), udp.set_nonblocking(true), unix.set_nonblocking(true)] {
        nonblocking.unwrap();
    }
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let program = attempts(&format!(
        r#"
import socket

def tcp(address, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.settimeout(2)
        s.connect(address)

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"hello", ("127.0.0.1", {udp_port}))

def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()

def netlink():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.bind((0, 0))
    # Bring up the loopback (RTM_NEWLINK, interface 1, IFF_UP).
    import struct
    s.send(struct.pack("=LHHLLBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 1, 1))
    answer = s.recv(4096)
    code = struct.unpack_from("=i", answer, 16)[0]
    if code:
        raise OSError(-code, "refused")

def listen():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    tcp(s.getsockname())

seen["TCP to the loopback"] = attempt(tcp, ("127.0.0.1", {tcp_port}))
seen["TCP over IPv6"] = attempt(tcp, ("::1", {tcp_port}), socket.AF_INET6)
seen["UDP"] = attempt(udp)
seen["raw"] = attempt(raw)
seen["bringing up the loopback"] = attempt(netlink)
seen["listening"] = attempt(listen)
seen["Unix socket"] = attempt(tcp, {path:?}, socket.AF_UNIX)
seen["name resolution"] = attempt(socket.create_connection, ("localhost", {tcp_port}), 2)
"#
    ));
    everywhere("network", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(udp.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn abstract_sockets() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("lopper-sandbox-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let program = attempts(&format!(
        r#"
import socket

def connect():
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(2)
        s.connect("\0{name}")

seen["abstract Unix socket"] = attempt(connect)
"#
    ));
    everywhere("abstract Unix socket", &program, |setting, outcome| {
        nothing_done(setting, outcome);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
