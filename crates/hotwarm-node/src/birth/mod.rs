//! How a group, and each of its data folders, comes into being (R4).
//!
//! ```text
//! hotwarm init ---> OUT/ca.pem, OUT/ca.key           the authority; its key stays with the operator
//!                   OUT/a/{ca.pem,node.pem,node.key,birth}
//!                   OUT/b/...                        each is copied to its node as `tls_dir`
//! hotwarm run  ---> data_dir/identity  and  tls_dir/birth -> birth.used     once, by the ticket; never again
//! ```
//!
//! A ticket (`birth`) makes one data folder, once: it carries the folder's identity and the group's initial state. A
//! node that finds no identity and no ticket does not start, so a wiped volume cannot pass for a new node, vote, and
//! outvote the data. The node never bootstraps anything by itself: the core does, from the ticket's state, when all
//! initial members have answered that they are fresh.

mod authority;
mod folder;
mod plan;
mod ticket;

pub use authority::{Authority, AuthorityError, CA_KEY_FILE, IssuedCertificate, issue_certificate};
pub use folder::{BirthError, IDENTITY_FILE, TICKET_FILE, USED_TICKET_FILE, open_folder};
pub use plan::{InitError, InitPlan, Initiated, Invitee, NodePlan};
pub use ticket::{Birth, Origin, TicketError};
