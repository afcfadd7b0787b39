import Glibc
import WeirCore

/// Who may write to a folder. Who may can move positions, and give us a pid to stop or a file to
/// write to.
struct FolderRights {
    let owner: uid_t
    let mode: mode_t
    /// As far as the system knows, no other user is in the group that may write.
    let isGroupOurs: Bool

    /// - Throws: when anybody but the user and root may write to it.
    func check(_ path: String, user: uid_t) throws(WeirError) {
        // Root may write everywhere. A volume that Kubernetes makes for an fsGroup is root's.
        guard owner == user || owner == 0 else {
            throw WeirError(
                .stateFailed, .blocked,
                "the state directory \"\(path)\" belongs to user \(owner), and Weir runs as user "
                    + "\(user)",
                hint: "Run Weir as its owner, or choose a --state-dir of its own, such as "
                    + "\(path)/weir.")
        }
        let isClosed = mode & S_IWOTH == 0 && (mode & S_IWGRP == 0 || isGroupOurs)
        if isClosed { return }
        let chown = owner == user ? "" : "chown \(user) \(path.shellWord); "
        throw WeirError(
            .stateFailed, .blocked,
            "others may write to the state directory \"\(path)\" (mode "
                + "0\(String(mode & 0o777, radix: 8)))",
            hint: "If what is in it is yours: \(chown)chmod 700 \(path.shellWord)")
    }
}

enum SystemGroup {
    /// Whether the lists of users and groups know of no member but us and root. A group without a
    /// name, as that of a volume is in a container, has none.
    static func isOfNoOthers(_ group: gid_t) -> Bool {
        var members: Set<String> = []
        if let entry = unsafe getgrgid(group) {
            var name = unsafe entry.pointee.gr_mem
            while let text = unsafe name?.pointee {
                unsafe members.insert(String(cString: text))
                unsafe name = name?.successor()
            }
        }
        setpwent()
        defer { endpwent() }
        while let entry = unsafe getpwent() {
            let user = unsafe entry.pointee.pw_uid
            if user == geteuid() || user == 0 {
                unsafe members.remove(String(cString: entry.pointee.pw_name))
            } else if unsafe entry.pointee.pw_gid == group {
                return false
            }
        }
        return members.isEmpty
    }
}
