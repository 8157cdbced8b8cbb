use std::net::{TcpListener, UdpSocket};

use super::*;

/// Tries things, and says of each what came of it: `name=ok` or `name=` with the error's name.
const TRIALS: &str = r#"
import ctypes, errno, os, signal, socket, sys
said = []
def trial(name, what):
    try:
        what(); said.append(f"{name}=ok")
    except OSError as error:
        said.append(f"{name}={errno.errorcode.get(error.errno, error)}")
def end():
    open(sys.argv[2], "w").write(" ".join(said))
def connect(family, kind, address, protocol=0):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(5); s.connect(address)
def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as s: s.sendto(b"x", address)
"#;

fn script(lines: &str) -> String {
    format!("{TRIALS}{lines}\nend()")
}

#[tokio::test]
async fn without_network_no_socket_of_the_internet_can_be_made() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap().port(), datagrams.local_addr().unwrap().port());
    let text = script(&format!(
        r#"
trial("tcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {tcp})))
trial("tcp6", lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", {tcp})))
trial("mptcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {tcp}), 262))
trial("udp", lambda: send(socket.AF_INET, ("127.0.0.1", {udp})))
trial("udp6", lambda: send(socket.AF_INET6, ("::1", {udp})))
trial("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
trial("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
trial("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
trial("pair", lambda: socket.socketpair())
trial("child", lambda: os._exit(0 if os.system("exec 3<>/dev/tcp/127.0.0.1/{tcp}") == 0 else 1) if os.fork() == 0 else os.wait())
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    if libc.syscall(number, 8, 0) < 0: raise OSError(ctypes.get_errno(), "")
trial("io_uring", lambda: call(425))
"#
    ));
    let bench = Bench::new();
    let content = bench.python(&text, "").await.content();
    assert_eq!(
        content,
        "tcp=EACCES tcp6=EACCES mptcp=EACCES udp=EACCES udp6=EACCES raw=EACCES packet=EACCES vsock=EACCES pair=ok \
         child=ok io_uring=EACCES"
    );
    listener.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err() && datagrams.recv(&mut [0]).is_err(), "something came through");
}

#[tokio::test]
async fn with_network_nothing_but_the_proxy_is_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = script(&format!(
        r#"
import urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
assert os.environ["http_proxy"] == os.environ["HTTPS_PROXY"] == os.environ["ALL_PROXY"]
trial("proxy", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, (proxy.hostname, proxy.port)))
trial("tcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {port})))
trial("tcp6", lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", {port})))
trial("mptcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {port}), 262))
def fast_open():
    with socket.socket() as s: s.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", {port}))
trial("fast_open", fast_open)
def bind():
    with socket.socket() as s: s.bind(("127.0.0.1", 0 if False else 45678))
trial("bind", bind)
trial("udp", lambda: send(socket.AF_INET, ("127.0.0.1", 53)))
trial("udp6", lambda: send(socket.AF_INET6, ("::1", 53)))
trial("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
"#
    ));
    let content = Bench::new().python(&text, "network: internet").await.content();
    assert_eq!(
        content,
        "proxy=ok tcp=EACCES tcp6=EACCES mptcp=EACCES fast_open=EACCES bind=EACCES udp=EACCES udp6=EACCES raw=EACCES"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "something came through");
}

#[tokio::test]
async fn it_writes_in_its_work_folder_only() {
    let bench = Bench::new();
    let (spool, beside) = (bench.folders.spool().join("x"), bench.path("beside"));
    let text = script(&format!(
        r#"
def write(path):
    with open(path, "w") as f: f.write("x")
trial("own", lambda: write("own"))
trial("tmp", lambda: __import__("tempfile").mkdtemp())
trial("null", lambda: write("/dev/null"))
trial("renamed", lambda: (os.mkdir("a"), os.rename("own", "a/own")))
trial("lock", lambda: __import__("multiprocessing").Lock())
trial("spool", lambda: write("{spool}"))
trial("beside", lambda: write("{beside}"))
trial("slash_tmp", lambda: write("/tmp/of_a_hostile_converter"))
trial("source", lambda: write(sys.argv[1]))
trial("unlink", lambda: os.unlink(sys.argv[1]))
trial("script", lambda: write(sys.argv[0]))
trial("link", lambda: os.link("a/own", "{beside}"))
"#,
        spool = spool.display(),
        beside = beside.display()
    ));
    let content = bench.python(&text, "").await.content();
    let (allowed, denied) = content.split_at(content.find(" spool").unwrap());
    assert_eq!(allowed, "own=ok tmp=ok null=ok renamed=ok lock=ok");
    assert_eq!(
        denied,
        " spool=EACCES beside=EACCES slash_tmp=EACCES source=EACCES unlink=EACCES script=EACCES link=EACCES"
    );
    assert!(!spool.exists() && !beside.exists());
}

#[tokio::test]
async fn it_reads_its_source_and_not_what_this_program_keeps_to_itself() {
    let bench = Bench::new();
    let other = bench.folders.work("job-2").unwrap();
    fs::write(other.path().join("source"), "another's").unwrap();
    let text = script(&format!(
        r#"
def read(path):
    with open(path, "rb") as f: f.read()
trial("source", lambda: read(sys.argv[1]))
trial("system", lambda: read("/etc/passwd"))
trial("settings", lambda: read("{settings}"))
trial("other", lambda: read("{other}/source"))
trial("lock", lambda: read("{root}/lock"))
parent = os.getppid()
trial("environment", lambda: read(f"/proc/{{parent}}/environ"))
trial("memory", lambda: read(f"/proc/{{parent}}/mem"))
trial("signal", lambda: os.kill(parent, 0))
libc = ctypes.CDLL(None, use_errno=True)
def attach():
    if libc.ptrace(16, parent, 0, 0) < 0: raise OSError(ctypes.get_errno(), "")
trial("ptrace", attach)
"#,
        settings = bench.path("settings.yaml").display(),
        other = other.path().display(),
        root = bench.folders.root().display()
    ));
    let content = bench.python(&text, "").await.content();
    assert_eq!(
        content,
        "source=ok system=ok settings=EACCES other=EACCES lock=EACCES environment=EACCES memory=EACCES signal=EPERM \
         ptrace=EACCES"
    );
}

#[tokio::test]
async fn settings_beside_its_description_stay_closed() {
    let mut bench = Bench::new();
    let here = bench.path("here");
    fs::create_dir(&here).unwrap();
    for name in [".env", "helper.py"] {
        fs::write(here.join(name), "api_key: secret").unwrap();
    }
    let closed = vec![bench.folders.root().to_owned(), here.join(".env")];
    bench.walls = Walls::new(closed, Egress::default());
    let text = script(
        r#"
here = os.path.dirname(sys.argv[0])
trial("helper", lambda: open(here + "/helper.py").read())
trial("settings", lambda: open(here + "/.env").read())
"#,
    );
    assert_eq!(bench.python(&text, "").await.content(), "helper=ok settings=EACCES");
}

#[tokio::test]
async fn it_types_nothing_into_a_terminal() {
    let text = script(
        r#"
import fcntl, termios
_, terminal = os.openpty()
trial("size", lambda: fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
trial("typed", lambda: fcntl.ioctl(terminal, termios.TIOCSTI, b"x"))
trial("pasted", lambda: fcntl.ioctl(terminal, termios.TIOCLINUX, b"\3"))
libc = ctypes.CDLL(None, use_errno=True)
def wide(request):
    # The kernel looks at the lower half of the request only.
    if libc.syscall(16, terminal, ctypes.c_ulong(request | 1 << 32), b"x") < 0: raise OSError(ctypes.get_errno(), "")
if os.uname().machine == "x86_64":
    trial("typed", lambda: wide(termios.TIOCSTI))
"#,
    );
    let content = Bench::new().python(&text, "").await.content();
    assert!(content.starts_with("size=ok typed=EACCES pasted=EACCES"), "{content}");
    assert!(!content.contains("typed=ok") && !content.contains("typed=EPERM"), "{content}");
}
