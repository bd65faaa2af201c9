//! One dispatcher for everything that happens.

use std::sync::Mutex;
use tokio::sync::mpsc;
use whimbrel_model::Event;

/// The events of an engine from the moment of subscription. A slow reader makes nobody wait; the stream
/// ends with the engine.
pub type EventStream = mpsc::UnboundedReceiver<Event>;

#[derive(Default, Debug)]
pub(crate) struct Events {
    sinks: Mutex<Vec<mpsc::UnboundedSender<Event>>>,
}

impl Events {
    pub(crate) fn subscribe(&self) -> EventStream {
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Ok(mut sinks) = self.sinks.lock() {
            sinks.push(sender);
        }
        receiver
    }

    pub(crate) fn send(&self, event: &Event) {
        if let Ok(mut sinks) = self.sinks.lock() {
            sinks.retain(|sink| sink.send(event.clone()).is_ok());
        }
    }
}
