import NIOCore
import WeirCore
import WeirRedisClient

/// Why a call did not succeed.
enum LinkFailure: Error {
    case redis(RedisFailure, doing: String)
    /// The server no longer knows a script.
    case scriptsGone
    case oldServer(version: String)
    /// Keys have versions of a later epoch than ours.
    case foreignKeys(Int)

    func weirError(_ map: RedisFailureMap) -> WeirError {
        switch self {
        case .redis(let failure, let work): map.error(failure, doing: work)
        case .scriptsGone:
            WeirError(.redisScriptsGone, .transient, "Redis at \(map.place) forgot Weir's scripts")
        case .oldServer(let version):
            WeirError(
                .redisVersion, .blocked,
                "\(map.place) runs Redis \(version); Weir needs 5 or newer")
        case .foreignKeys(let count):
            WeirError(
                .redisOtherWriter, .blocked,
                "\(count == 1 ? "1 key" : "\(count) keys") at \(map.place) of a later epoch "
                    + "than this sink's",
                detail: "Another pipeline or another Weir wrote them; they were left as they are.",
                hint: ErrorCode.redisOtherWriter.remedy)
        }
    }
}

/// One connection with the sink's scripts loaded, and the calls that are under way on it. Belongs
/// to its sink's event loop.
final class RedisLink {
    private let connection: RedisConnection
    private var facts: RedisServerFacts
    private let main: CacheScript
    private let shas: [CacheScript: String]
    private(set) var sentBytes = 0

    private struct Pending {
        let reply: EventLoopFuture<[RESPValue]>
        /// The first number of the reply counts keys of a later epoch.
        let isVersioned: Bool
        let parts: [CacheEncoder.Part]
    }
    private var pending: CircularBuffer<Pending> = []
    /// The parts of hashes in the call that is being gathered.
    var parts: [CacheEncoder.Part] = []
    /// Parts were sent whose fate is not known, or known to be missing.
    private(set) var hasParts = false
    private var missing: [Int] = []

    private static let majorVersionMin = 5

    /// Connects and loads the scripts.
    static func open(
        _ options: RedisOptions, on eventLoop: any EventLoop, script main: CacheScript
    ) async throws(LinkFailure) -> RedisLink {
        let connection: RedisConnection
        do {
            connection = try await RedisConnection.connect(options, on: eventLoop)
        } catch {
            throw .redis(error, doing: "connect")
        }
        let facts: RedisServerFacts
        var shas: [CacheScript: String] = [:]
        do {
            facts = try await RedisServerFacts.read(from: connection)
        } catch {
            throw .redis(error, doing: "ask for facts")
        }
        if let version = facts.version, let major = version.split(separator: ".").first,
            let number = Int(major), number < majorVersionMin
        {
            throw .oldServer(version: version)
        }
        do throws(RedisFailure) {
            for script in [main, .sweep, .mark, .replace, .rights] {
                let reply = try await connection.command("SCRIPT", "LOAD", script.text)
                guard let sha = reply.text else {
                    throw RedisFailure(.protocolError, "SCRIPT LOAD was not answered by a digest")
                }
                shas[script] = sha
            }
        } catch {
            throw .redis(error, doing: "load scripts")
        }
        return RedisLink(connection, facts, main, shas)
    }

    private init(
        _ connection: RedisConnection, _ facts: RedisServerFacts, _ main: CacheScript,
        _ shas: [CacheScript: String]
    ) {
        self.connection = connection
        self.facts = facts
        self.main = main
        self.shas = shas
    }

    var isOpen: Bool { connection.isOpen }
    /// The server's run; empty when it does not say.
    var run: String { facts.runID ?? "" }
    /// It may evict any key, and has evicted some in this run.
    var isEvicting: Bool {
        facts.evictionPolicy?.hasPrefix("allkeys") == true && facts.evictedKeys ?? 0 > 0
    }
    /// Bytes after which it refuses or evicts, 0 for no limit, and which keys it evicts; nil when
    /// it does not say.
    var memoryLimit: (bytes: Int64, policy: String)? {
        guard let bytes = facts.maxMemory, let policy = facts.evictionPolicy else { return nil }
        return (bytes, policy)
    }
    /// In a cluster all keys of a call must be in one slot.
    var keysPerCall: Int { facts.mode == .cluster ? 1 : .max }

    func close() async { await connection.close() }

    /// Ends the connection without waiting; what is under way may still have its effect.
    func abandon() {
        let connection = connection
        Task { await connection.close() }
    }

    // MARK: Calls

    /// Sends the call that was gathered, to the sink's own script or another.
    func submit(_ call: inout ScriptCall, _ script: CacheScript? = nil, lead: [String]) {
        var buffer = ByteBuffer()
        call.finish(sha: shas[script ?? main] ?? "", lead: lead, into: &buffer)
        let isVersioned = script == nil && main != .invalidate
        send(buffer, isVersioned: isVersioned, parts)
        if !parts.isEmpty { hasParts = true }
        parts.removeAll()
    }

    /// Runs one of the scripts for the marker, behind everything sent before.
    func run(
        _ script: CacheScript, on keys: [String], _ arguments: String...
    ) async throws(LinkFailure) -> RESPValue {
        var buffer = ByteBuffer()
        buffer.writeCommand(
            ["EVALSHA", shas[script] ?? "", "\(keys.count)"] + keys + arguments)
        return try await command(buffer)
    }

    /// Which of the commands the user may not run.
    ///
    /// - Parameter keys: all in one slot; tried is only the first.
    func refused(_ commands: [String], on keys: [[UInt8]]) async throws(LinkFailure) -> [String] {
        var buffer = ByteBuffer()
        buffer.writeCommand(partCount: 4 + keys.count)
        buffer.writeBulk("EVALSHA")
        buffer.writeBulk(shas[.rights] ?? "")
        buffer.writeBulk(keys.count)
        for key in keys { buffer.writeBulk(key) }
        buffer.writeBulk(commands.joined(separator: " "))
        return try await command(buffer).elements?.compactMap(\.text) ?? []
    }

    /// Asks the server for its facts again.
    func refreshFacts() async throws(LinkFailure) {
        do {
            facts = try await RedisServerFacts.read(from: connection)
        } catch {
            throw .redis(error, doing: "ask for facts")
        }
    }

    private func send(
        _ buffer: ByteBuffer, isVersioned: Bool = false, _ parts: [CacheEncoder.Part] = []
    ) {
        sentBytes += buffer.readableBytes
        let reply = connection.submit(buffer, replies: 1)
        pending.append(Pending(reply: reply, isVersioned: isVersioned, parts: parts))
    }

    /// Waits for the oldest calls until `count` are left.
    func settle(downTo count: Int) async throws(LinkFailure) {
        while pending.count > count { _ = try await settleFirst() }
    }

    /// Waits for all calls and returns the last reply.
    func settleLast() async throws(LinkFailure) -> RESPValue {
        var last = RESPValue.null
        while !pending.isEmpty { last = try await settleFirst() }
        return last
    }

    private func settleFirst() async throws(LinkFailure) -> RESPValue {
        let first = pending.removeFirst()
        let reply: RESPValue
        do {
            reply = try await first.reply.value()[0]
        } catch {
            throw .redis(error, doing: "write")
        }
        if let error = reply.error {
            if error.code == "NOSCRIPT" { throw .scriptsGone }
            throw .redis(RedisFailure(error), doing: "write")
        }
        guard first.isVersioned else { return reply }
        let numbers = reply.elements?.compactMap(\.integer) ?? [reply.integer ?? 0]
        if let foreign = numbers.first, foreign > 0 { throw .foreignKeys(Int(foreign)) }
        if !first.parts.isEmpty {
            for place in numbers.dropFirst() {
                if let part = first.parts.first(where: { $0.place == place }) {
                    missing.append(part.event)
                }
            }
        }
        return reply
    }

    /// The events of parts whose hash is missing, in order.
    func takeMissing() -> [Int] {
        hasParts = false
        defer { missing.removeAll() }
        return missing
    }

    /// One command, after everything under way.
    func command(_ parts: [String]) async throws(LinkFailure) -> RESPValue {
        var buffer = ByteBuffer()
        buffer.writeCommand(parts)
        return try await command(buffer)
    }

    func command(_ bytes: ByteBuffer) async throws(LinkFailure) -> RESPValue {
        send(bytes)
        return try await settleLast()
    }
}
