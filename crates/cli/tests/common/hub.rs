//! A hub on this machine, and the program that asks it.

use assert_cmd::Command;
use lopper_testkit::hub::{HubServer, Side};
use serde_json::Value;

use super::{Arguments, Printed, Workplace};

/// A workplace and a hub; `commit` is that of what the hub has.
pub struct Hub {
    pub place: Workplace,
    pub server: HubServer,
    pub commit: String,
}

impl Hub {
    /// `publish` prepares the workplace, and returns the commit of what it publishes.
    pub fn new(publish: impl FnOnce(&Workplace, &HubServer) -> String) -> Self {
        let (place, server) = (Workplace::new(true), HubServer::start());
        let commit = publish(&place, &server);
        Self { place, server, commit }
    }

    /// The program, with this hub and a cache of its own.
    pub fn command(&self, arguments: &(impl Arguments + ?Sized)) -> Command {
        let mut command = self.place.command(arguments);
        command
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE")
            .env("HF_HOME", self.place.path("home"))
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_TOKEN", "hf_secret")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    pub fn run(&self, arguments: &(impl Arguments + ?Sized)) -> Printed {
        Printed::of(&self.command(arguments).assert().success())
    }

    pub fn json(&self, arguments: &(impl Arguments + ?Sized)) -> Value {
        self.run(arguments).json()
    }

    /// Standard error of a command that ends with `status`.
    pub fn refused(&self, status: i32, arguments: &(impl Arguments + ?Sized)) -> String {
        refusal(status, &mut self.command(arguments))
    }

    /// How many files were requested from the store since the last look.
    pub fn fetched(&self) -> usize {
        self.server.requests().iter().filter(|request| request.side == Side::Store).count()
    }
}

/// Standard error of a command that ends with `status`; nothing is on standard output, and no token anywhere.
pub fn refusal(status: i32, command: &mut Command) -> String {
    let Printed { out, err } = Printed::of(&command.assert().code(status));
    assert_eq!(out, "");
    assert!(!err.contains("hf_secret"), "{err}");
    err
}
