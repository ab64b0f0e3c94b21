//! Name servers on loopback addresses of their own, at the port that resolvers ask: one is silent, the other knows one
//! name.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

/// Both, as long as this lives.
pub struct Names {
    silent: UdpSocket,
    knowing: Ipv4Addr,
    ended: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Names {
    /// They know this name, by these addresses. Needs root: resolvers ask at port 53.
    pub fn new(name: &'static str, addresses: Vec<Ipv4Addr>) -> Names {
        static COUNT: AtomicU8 = AtomicU8::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Two test programs at a time are at different addresses, and neither is where a machine has its own.
        let at = |last| Ipv4Addr::new(127, 100 + (std::process::id() % 100) as u8, count, last);
        let bind = |at: Ipv4Addr| UdpSocket::bind((at, 53)).unwrap_or_else(|error| panic!("{at}, port 53: {error}"));
        let socket = bind(at(2));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("more than nothing");
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let answering = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                let _ = socket.send_to(&answer(&question[..length], name, &addresses), from);
            }
        });
        Names { silent: bind(at(1)), knowing: at(2), ended, answering: Some(answering) }
    }

    /// What resolv.conf says: the silent one first, and nothing besides.
    pub fn resolv_conf(&self) -> String {
        let silent = self.silent.local_addr().expect("it is bound").ip();
        format!("nameserver {silent}\nnameserver {}\n", self.knowing)
    }

    /// The silent one alone.
    pub fn silent_resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.silent.local_addr().expect("it is bound").ip())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.answering.take().map(JoinHandle::join);
    }
}

fn answer(question: &[u8], known: &str, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let asked = Packet::parse(question).expect("a question");
    let question = asked.questions.first().expect("a question").clone();
    let mut reply = Packet::new_reply(asked.id());
    if question.qname != Name::new(known).expect("a name") {
        *reply.rcode_mut() = RCODE::NameError;
    } else if question.qtype == QTYPE::TYPE(TYPE::A) {
        let records = addresses.iter().map(|address| {
            ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, RData::A(A { address: (*address).into() }))
        });
        reply.answers = records.collect();
    }
    reply.questions.push(question);
    reply.build_bytes_vec().expect("an answer")
}
