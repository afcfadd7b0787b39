import WeirCore
import WeirRedisClient

/// The marker: a key of this sink's own that holds the version of the last change delivered.
///
/// Redis loses data from the end (what was not yet saved, or not yet replicated) or all of it. So a
/// marker that is there, and not older than we left it, proves that all before it is there too.
///
/// It stands there twice. A server that evicts keys takes one at a time, and each is looked at once
/// a second at least; what removes both (a flush, a restart without data, a DEL of all keys of a
/// prefix) is a loss, whatever the server evicted beside it.
struct CacheMarker: Sendable, Equatable {
    let version: CacheVersion
    /// The server's run when it was set; empty when unknown.
    let run: String

    /// What the state store keeps, and the marker key's value.
    var text: String { "\(version.text) \(run)" }

    init(_ version: CacheVersion, run: String) {
        self.version = version
        self.run = run
    }

    /// Nil when the text is no marker.
    init?(parsing text: String) {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 2, let version = CacheVersion(parsing: parts[0]) else { return nil }
        self.init(version, run: String(parts[1]))
    }

    /// What stands at the server while rows are read again: older than anything, so that whoever
    /// finds it knows the work is not done, and of this very attempt.
    static func repair(since version: CacheVersion) -> CacheMarker {
        let token = UInt64.random(in: .min ... .max)
        return CacheMarker(
            .none, run: "\(repairPrefix)\(version.text)-\(String(token, radix: 16))")
    }

    private static let repairPrefix = "repair-"

    /// The newest change delivered when this was set.
    private var delivered: CacheVersion {
        guard run.hasPrefix(Self.repairPrefix) else { return version }
        let text = run.dropFirst(Self.repairPrefix.count).prefix { $0 != "-" }
        return CacheVersion(parsing: text) ?? version
    }

    /// What a marker means, found at a server, for a sink that has delivered up to `expected`.
    enum Verdict: Equatable {
        /// Everything delivered is there.
        case intact
        /// Nothing was ever delivered, here or by an earlier life of the pipeline.
        case new
        /// Something delivered is gone.
        case lost(String)
        /// The pipeline's position was moved, or its source failed over, so changes may have been
        /// left out since.
        case moved(since: CacheVersion)
        /// A new epoch in which nothing was skipped: everything delivered is there.
        case continued(since: CacheVersion)
        /// Somebody with a newer epoch writes here.
        case foreign
    }

    /// - Parameters:
    ///   - found: the marker at the server; nil when both keys are missing or hold something else.
    ///   - expected: the last marker we know of; nil when no checkpoint goes with it.
    ///   - isContinuous: see `ConnectorContext.isContinuous`.
    ///   - isEvicting: the server may evict any key, and has evicted some.
    static func judge(
        found: CacheMarker?, expected: CacheMarker?, epoch: UInt32, isContinuous: Bool = false,
        run: String, isEvicting: Bool
    ) -> Verdict {
        if let found, found.version.epoch > epoch { return .foreign }
        guard let expected else { return found.map { .moved(since: $0.delivered) } ?? .new }
        if let found {
            if found.version < expected.version {
                return .lost("it was restored, or a replica that was behind took over")
            }
            if expected.version.epoch >= epoch { return .intact }
            return isContinuous
                ? .continued(since: found.delivered) : .moved(since: found.delivered)
        }
        if run != expected.run { return .lost("it was restarted without its data") }
        return .lost(
            isEvicting
                ? "it was flushed, or evicted both of Weir's markers with much else"
                : "it was flushed")
    }
}

/// The two keys of a marker, as they were found.
struct FoundMarker: Sendable {
    let main: CacheMarker?
    let copy: CacheMarker?

    /// The replies to two GETs.
    init(_ values: [RESPValue]) {
        let texts = values.map { $0.text.flatMap(CacheMarker.init(parsing:)) }
        main = texts.first ?? nil
        copy = texts.count > 1 ? texts[1] : nil
    }

    init(_ known: CacheMarker) {
        main = known
        copy = known
    }

    var either: CacheMarker? { main ?? copy }
    /// The server took one key and left its copy.
    var isEvicted: Bool { main == nil && copy != nil }
}

/// The transactions delivered lately, for a reader of rows to wait for: those that a server has
/// sent and not yet shown to others are among them, at most one per connection it allows.
struct RecentTransactions: Sendable {
    private var ring: [UInt32] = []
    private var next = 0
    private static let countMax = 4096

    mutating func add(_ transaction: UInt32) {
        if transaction == 0 { return }
        if ring.count < Self.countMax {
            ring.append(transaction)
        } else {
            ring[next] = transaction
            next = (next + 1) % Self.countMax
        }
    }

    /// Adds those of a batch; events of one transaction come in a row.
    mutating func add(_ batch: EventBatch) {
        var last: UInt32 = 0
        for event in batch.events where event.transaction != last {
            last = event.transaction
            add(last)
        }
    }

    var all: [UInt32] { ring }
}
