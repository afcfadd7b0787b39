/// What one key must hold, after any order of writes, replays, evictions and refills.
struct ModelKey {
    var version: String?
    var value: [UInt8]?
    private var isDeleted = false
    private var lease: String?

    /// A change with a version; nil deletes.
    mutating func write(_ version: String, _ value: [UInt8]?) {
        guard self.version.map({ $0 < version }) ?? true else { return }
        self.version = version
        self.value = value
        isDeleted = value == nil
        lease = nil
    }

    /// The server drops the value and keeps the version.
    mutating func evict() { value = nil }

    /// Whether a lease is given.
    mutating func lease(_ token: String) -> Bool {
        guard value == nil, !isDeleted, lease == nil else { return false }
        lease = token
        return true
    }

    /// Whether a value is taken back.
    mutating func fill(_ token: String, _ value: [UInt8]) -> Bool {
        guard lease == token else { return false }
        self.value = value
        lease = nil
        return true
    }
}
