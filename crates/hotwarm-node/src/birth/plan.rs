//! What `hotwarm init` and `hotwarm node add` write: an authority, and for each node certificates and a ticket.

use super::authority::{Authority, AuthorityError, write_new};
use super::folder::TICKET_FILE;
use super::ticket::{Birth, Origin};
use hotwarm_core::register::{GroupState, Member, MemberRole, ProposalId, Settings};
use hotwarm_types::limits::{MEMBERS_MAX, NAME_SIZE_BYTES_MAX};
use hotwarm_types::{ClusterId, Epoch, FolderId, GroupId, Incarnation, NodeId, Reign, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The number of a cluster's first group.
const FIRST_GROUP: GroupId = GroupId(1);

/// One node of a group that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its name: a DNS label in lower case.
    pub name: String,
    /// Where peers reach it: host name and port.
    pub address: String,
    /// Whether it holds data.
    pub role: MemberRole,
    /// Its priority as a candidate.
    pub priority: u16,
}

/// A group that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    /// The cluster's name, for people.
    pub cluster_name: String,
    /// The nodes; at least one holds data. The one with the highest priority, the first of equals, is hot first.
    pub nodes: Vec<NodePlan>,
    /// What the group agrees on to begin with.
    pub settings: Settings,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiated {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The folder of each node, to be copied there as its `tls_dir`.
    pub folders: BTreeMap<String, PathBuf>,
}

impl InitPlan {
    /// Makes the group's authority and the folder of each node under `out`; never over anything that exists.
    ///
    /// # Errors
    /// When the plan is wrong or `out` has any of it already, nothing is written. When a file cannot be written, those
    /// before it were.
    pub fn write(&self, out: &Path) -> Result<Initiated, InitError> {
        self.check()?;
        if let Some(path) = self.in_the_way(out) {
            return Err(InitError::Exists { path });
        }
        let cluster = ClusterId(rand::random());
        let authority = Authority::create(cluster, &self.cluster_name)?;
        let state = self.initial_state(cluster);
        make_folder(out)?;
        authority.write(out)?;
        let mut folders = BTreeMap::new();
        for member in state.members.values() {
            let folder = out.join(&member.name);
            write_node(&authority, &folder, member, Origin::Founded, &state)?;
            folders.insert(member.name.clone(), folder);
        }
        Ok(Initiated { cluster, folders })
    }

    /// The state of the group before its first version: its members with new folders, all data nodes in sync, since
    /// all are equally empty.
    ///
    /// # Panics
    /// When no node holds data: `check` comes before.
    pub(super) fn initial_state(&self, cluster: ClusterId) -> GroupState {
        let number = |index: usize| NodeId(u16::try_from(index + 1).unwrap_or(u16::MAX));
        let members: BTreeMap<NodeId, Member> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let (name, address) = (node.name.clone(), node.address.clone());
                let folder = FolderId(rand::random());
                (number(index), Member { name, folder, address, role: node.role, priority: node.priority })
            })
            .collect();
        let data = || members.iter().filter(|(_, member)| member.role == MemberRole::Data);
        let first = data().max_by_key(|(id, member)| (member.priority, std::cmp::Reverse(**id))).map(|(id, _)| *id);
        let node = first.expect("a checked plan has a node that holds data");
        GroupState {
            cluster,
            group: FIRST_GROUP,
            version: Version::default(),
            proposal: ProposalId::default(),
            reign: Reign { epoch: Epoch::default(), node, incarnation: Incarnation::default() },
            lossy_epoch: None,
            in_sync: data().map(|(id, _)| *id).collect(),
            next_node: number(members.len()),
            members,
            members_version: Version::default(),
            invited: BTreeMap::new(),
            settings: self.settings.clone(),
            pause: None,
            changes: VecDeque::new(),
        }
    }

    fn check(&self) -> Result<(), InitError> {
        let wrong = |problem: String| Err(InitError::Plan { problem });
        if self.nodes.is_empty() || self.nodes.len() > MEMBERS_MAX {
            return wrong(format!("{} nodes: a group has 1 to {MEMBERS_MAX}", self.nodes.len()));
        }
        if !self.nodes.iter().any(|node| node.role == MemberRole::Data) {
            return wrong("no node holds data: at least one must not be a witness".to_owned());
        }
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            check_name(&node.name)?;
            if !names.insert(&node.name) {
                return wrong(format!("two nodes are named {:?}: each needs a name of its own", node.name));
            }
            if !addresses.insert(&node.address) {
                return wrong(format!("two nodes have the address {:?}: each needs one of its own", node.address));
            }
        }
        Ok(())
    }

    /// The first thing under `out` that would have to be overwritten.
    fn in_the_way(&self, out: &Path) -> Option<PathBuf> {
        let own = [crate::tls::CA_FILE, super::authority::CA_KEY_FILE].map(|file| out.join(file));
        own.into_iter().chain(self.nodes.iter().map(|node| out.join(&node.name))).find(|path| path.exists())
    }
}

/// A node that joins a group that runs, in place of a member of that name if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitee {
    /// Its name: the one it was invited under.
    pub name: String,
    /// The group's present state: its members are whom the node asks for admission.
    pub state: GroupState,
}

impl Invitee {
    /// Makes `out/<name>` with certificates of the authority in `ca_folder` and a ticket for a new folder; never over
    /// anything that exists.
    ///
    /// # Errors
    /// When the authority is another cluster's or the folder exists, nothing is written. When a file cannot be written,
    /// those before it were.
    pub fn write(&self, ca_folder: &Path, out: &Path) -> Result<PathBuf, InitError> {
        check_name(&self.name)?;
        let authority = Authority::load(ca_folder)?;
        if authority.cluster() != self.state.cluster {
            let (authority, group) = (authority.cluster(), self.state.cluster);
            return Err(InitError::OtherCluster { authority, group });
        }
        let folder = out.join(&self.name);
        if folder.exists() {
            return Err(InitError::Exists { path: folder });
        }
        let member = Member {
            name: self.name.clone(),
            folder: FolderId(rand::random()),
            address: String::new(),
            role: MemberRole::Data,
            priority: 0,
        };
        make_folder(out)?;
        write_node(&authority, &folder, &member, Origin::Invited, &self.state)?;
        Ok(folder)
    }
}

/// The folder of one node: certificates and ticket. Of `member` only name and folder count.
fn write_node(
    authority: &Authority,
    folder: &Path,
    member: &Member,
    origin: Origin,
    state: &GroupState,
) -> Result<(), InitError> {
    let (cluster, group, state) = (state.cluster, state.group, state.clone());
    let ticket = Birth { cluster, group, name: member.name.clone(), folder: member.folder, origin, state };
    make_folder(folder)?;
    authority.issue(&member.name)?.write(folder)?;
    Ok(write_new(&folder.join(TICKET_FILE), ticket.to_text().as_bytes(), 0o644)?)
}

fn make_folder(path: &Path) -> Result<(), InitError> {
    std::fs::create_dir_all(path).map_err(|error| InitError::Folder { path: path.to_owned(), error })
}

fn check_name(name: &str) -> Result<(), InitError> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let inner = !name.is_empty() && !name.starts_with('-') && !name.ends_with('-');
    if letters && inner && name.len() <= NAME_SIZE_BYTES_MAX {
        return Ok(());
    }
    let problem =
        format!("node name {name:?} must be 1 to {NAME_SIZE_BYTES_MAX} lower-case letters, digits and inner hyphens");
    Err(InitError::Plan { problem })
}

/// Why a group, or a node's folder, was not made.
#[derive(Debug)]
pub enum InitError {
    /// The plan cannot be a group.
    Plan {
        /// Why not.
        problem: String,
    },
    /// Something is where a file would be written.
    Exists {
        /// What.
        path: PathBuf,
    },
    /// The authority is another cluster's.
    OtherCluster {
        /// The authority's cluster.
        authority: ClusterId,
        /// The group's cluster.
        group: ClusterId,
    },
    /// A folder cannot be made.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A certificate or ticket cannot be made or written.
    Authority(AuthorityError),
}

impl From<AuthorityError> for InitError {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan { problem } => f.write_str(problem),
            Self::Exists { path } => write!(
                f,
                "{path:?} exists: keys and tickets are never overwritten; nothing was written; choose another folder"
            ),
            Self::OtherCluster { authority, group } => write!(
                f,
                "the authority is of cluster {authority}, the group of cluster {group}: name the folder that \"hotwarm \
                 init\" wrote for this group"
            ),
            Self::Folder { path, .. } => write!(f, "make folder {path:?}"),
            Self::Authority(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder { error, .. } => Some(error),
            Self::Authority(error) => std::error::Error::source(error),
            Self::Plan { .. } | Self::Exists { .. } | Self::OtherCluster { .. } => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::birth::open_folder;
    use crate::tls::Tls;

    pub(crate) fn plan() -> InitPlan {
        let node = |name: &str, port: u16, role, priority| NodePlan {
            name: name.into(),
            address: format!("127.0.0.1:{port}"),
            role,
            priority,
        };
        let nodes = vec![
            node("a", 1, MemberRole::Data, 100),
            node("b", 2, MemberRole::Data, 200),
            node("w", 3, MemberRole::Witness, 900),
        ];
        InitPlan { cluster_name: "shop".into(), nodes, settings: Settings::default() }
    }

    #[test]
    fn the_data_node_of_the_highest_priority_is_hot_first() {
        let state = plan().initial_state(ClusterId(1));
        assert_eq!(state.reign.node, NodeId(2));
        assert_eq!(state.in_sync, [NodeId(1), NodeId(2)].into());
        assert_eq!(state.next_node, NodeId(4));
        let mut equals = plan();
        equals.nodes.iter_mut().for_each(|node| node.priority = 5);
        assert_eq!(equals.initial_state(ClusterId(1)).reign.node, NodeId(1));
    }

    #[test]
    fn every_nodes_folder_works_and_only_the_operator_keeps_the_authoritys_key() {
        let root = tempfile::tempdir().unwrap();
        let made = plan().write(root.path()).unwrap();
        assert_eq!(made.folders.keys().collect::<Vec<_>>(), ["a", "b", "w"]);
        for (name, folder) in &made.folders {
            let tls = Tls::load(folder).unwrap();
            let birth = open_folder(folder, &root.path().join(format!("data-{name}"))).unwrap();
            birth.check(name, Some(tls.identity())).unwrap();
            assert_eq!(birth.cluster, made.cluster);
            assert!(!folder.join(super::super::CA_KEY_FILE).exists());
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("b")).unwrap();
        let error = plan().write(root.path()).unwrap_err();
        assert!(matches!(&error, InitError::Exists { path } if path.ends_with("b")), "{error}");
        assert!(!root.path().join("ca.pem").exists() && !root.path().join("a").exists());
    }

    #[test]
    fn a_plan_that_is_no_group_is_refused_in_words() {
        let refused = |change: fn(&mut InitPlan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        assert!(refused(|plan| plan.nodes.clear()).contains("1 to 9"));
        assert!(refused(|plan| plan.nodes.truncate(0)).contains("0 nodes"));
        assert!(refused(|plan| drop(plan.nodes.drain(..2))).contains("no node holds data"));
        assert!(refused(|plan| plan.nodes[1].name = "a".into()).contains("two nodes are named \"a\""));
        assert!(refused(|plan| plan.nodes[1].name = "../x".into()).contains("lower-case letters"));
        assert!(refused(|plan| plan.nodes[1].address = "127.0.0.1:1".into()).contains("two nodes have the address"));
    }

    #[test]
    fn an_invited_node_gets_a_folder_of_its_own_from_the_right_authority() {
        let root = tempfile::tempdir().unwrap();
        let made = plan().write(root.path()).unwrap();
        let state = plan().initial_state(made.cluster);
        let invitee = Invitee { name: "c".into(), state };
        let folder = invitee.write(root.path(), root.path()).unwrap();
        let birth = open_folder(&folder, &root.path().join("data-c")).unwrap();
        assert_eq!((birth.origin, birth.founding_state()), (Origin::Invited, None));
        birth.check("c", Some(Tls::load(&folder).unwrap().identity())).unwrap();

        let stranger = Invitee { name: "d".into(), state: plan().initial_state(ClusterId(9)) };
        let error = stranger.write(root.path(), root.path()).unwrap_err();
        assert!(matches!(error, InitError::OtherCluster { .. }), "{error}");
    }
}
