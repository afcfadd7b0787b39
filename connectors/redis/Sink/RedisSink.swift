import NIOCore
import NIOPosix
package import WeirCore
import WeirRedisClient

/// Keeps keys of a Redis server in step with rows, and never lets one go backwards: every write
/// carries the version of its change, and a script takes it only when it is newer than the key's.
package actor RedisSink: SinkConnector {
    package typealias Config = RedisSinkConfig

    let config: RedisSinkConfig
    let context: ConnectorContext
    nonisolated let eventLoop: any EventLoop
    package nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe eventLoop.executor.asUnownedSerialExecutor()
    }

    var encoder: CacheEncoder
    private var random = XorShift(seed: UInt64.random(in: 1...UInt64.max))
    var call = ScriptCall()
    private var link: RedisLink?
    /// Rows go one by one, because of one that the server does not take.
    var isolation = RowIsolation()
    private var rowReader: (any RowReader)?

    /// The newest change delivered, or where the checkpoint stood at the start.
    var delivered: CacheVersion
    /// The newest up to a boundary: what the checkpoint keeps.
    var boundary: CacheVersion
    /// The sink of another name this one goes on for, until that one's marker was looked at.
    var predecessor: String?
    /// The marker as the server has confirmed it; nil before the first checkpoint of a pipeline.
    var marker: CacheMarker?
    /// Why rows must be read again before anything else is written, and whether that was said.
    var loss: (reason: String, isReported: Bool)?
    var recent = RecentTransactions()
    /// Old keys left to their ttl since the sink was opened.
    private var unknownKeys = 0
    /// When a marker is compared next though nothing is written.
    var nextCheck = ContinuousClock.now

    private static let checkInterval = Duration.seconds(1)
    /// Calls under way: enough that Redis never waits for us.
    private static let callsMax = 4
    /// How many rows are read beside the stream at once: few where they are large.
    private var completedMax = 8
    private static let completedMax = 64
    private static let completedBytes = 4 << 20

    package init(_ config: RedisSinkConfig, _ context: ConnectorContext) {
        self.config = config
        self.context = context
        eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        encoder = CacheEncoder(config, context.notation)
        delivered = .start(of: context.epoch())
        boundary = delivered
    }

    var failures: RedisFailureMap {
        RedisFailureMap(
            place: config.options.url.place,
            user: config.options.username ?? config.options.url.username)
    }

    // MARK: Life

    package func open(at mark: SinkMark?) async throws(WeirError) -> SinkMark? {
        predecessor = mark?.renamed?.sink
        if let mark = mark?.renamed?.mark ?? mark {
            guard let stored = CacheMarker(parsing: mark.text) else {
                throw WeirError(.bug, .bug, "the stored mark \"\(mark.text)\" is no version")
            }
            if delivered < stored.version { delivered = stored.version }
            marker = marker ?? stored
            boundary = delivered
        }
        do throws(WeirError) {
            let link = try await ready()
            if predecessor != nil {
                try await set(CacheMarker(delivered, run: link.run), link)
                predecessor = nil
            }
            return SinkMark(CacheMarker(boundary, run: link.run).text)
        } catch {
            _ = isolation.shouldBegin(after: error.code, wasOpen: self.link != nil)
            abandon()
            throw error
        }
    }

    package func close() async {
        if unknownKeys > 0 {
            context.log(.info, "left \(unknownKeys) old keys to their ttl")
            unknownKeys = 0
        }
        await link?.close()
        link = nil
        await rowReader?.close()
        rowReader = nil
    }

    /// Redis has no flush of its own to wait for: what it acknowledged is as durable as it is
    /// configured to be, and a loss is found by the marker.
    package nonisolated func flush() {}

    /// A connection whose server holds everything delivered so far.
    func ready() async throws(WeirError) -> RedisLink {
        let link: RedisLink
        if let open = self.link, open.isOpen {
            link = open
        } else {
            self.link = nil
            link = try await connect()
            try await look(at: try await read(markerOf: link), link)
            self.link = link
        }
        if let marker, marker.version.epoch < context.epoch() {
            try await look(at: FoundMarker(marker), link)
        }
        if loss != nil { try await mend(link) }
        return link
    }

    private func connect() async throws(WeirError) -> RedisLink {
        do {
            let link = try await RedisLink.open(
                config.options, on: eventLoop, script: config.script)
            if let run = marker?.run, !run.isEmpty, run != link.run {
                context.log(.info, "Redis at \(config.options.url.place) was restarted or replaced")
            }
            return link
        } catch {
            throw failed(error)
        }
    }

    // MARK: Writing

    package func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        do throws(WeirError) {
            return try await deliver(batches)
        } catch {
            let wasOpen = link != nil
            abandon()
            let isAlone = isolation.shouldBegin(after: error.code, wasOpen: wasOpen)
            guard error.code == .redisScriptsGone || isAlone else { throw error }
        }
        // A new connection loads them again; versions make the second try harmless.
        do throws(WeirError) {
            return try await deliver(batches)
        } catch {
            abandon()
            throw error
        }
    }

    /// After any failure nothing is known of the calls that were gathered or under way. All of it
    /// is written again, on a new connection, which also a server that became a replica asks for.
    func abandon() {
        link.take()?.abandon()
        call.removeAll()
    }

    private func deliver(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        let link = try await ready()
        var newest = delivered
        var boundary = boundary
        var hasBoundary = false
        let versions = CacheEncoder.Versions(epoch: context.epoch())
        var counts = CacheEncoder.Counts()
        var bytes = 0
        let before = link.sentBytes
        for batch in batches {
            if let last = batch.events.last {
                newest = try CacheVersion(epoch: versions.epoch, of: last, in: batch)
                recent.add(batch)
                try await deliver(batch, versions, &counts, link)
            }
            if batch.resume != nil {
                boundary = max(boundary, newest)
                hasBoundary = true
            }
        }
        if newest != delivered || ContinuousClock.now >= nextCheck {
            nextCheck = .now + Self.checkInterval
            try await advanceMarker(to: newest, link)
        }
        note(unknownKeys: counts.unknownKeys)
        if let position = counts.ignoredTruncate {
            try await note(ignoredTruncate: context.notation.display(position))
        }
        bytes = link.sentBytes - before
        delivered = max(delivered, newest)
        self.boundary = boundary
        isolation.end()
        return WriteOutcome(
            .durable, delivered: counts.delivered, filtered: counts.filtered, late: counts.late,
            bytes: bytes,
            mark: hasBoundary ? SinkMark(CacheMarker(boundary, run: link.run).text) : nil)
    }

    /// Says once that keys are left behind; how many in the end, `close` says.
    private func note(unknownKeys count: Int) {
        if count > 0, unknownKeys == 0 {
            let tables = config.tables.map(\.description).joined(separator: ", ")
            context.log(
                .warning,
                "rows of \(tables) changed or went whose old key is not known; such a key stays until "
                    + "its ttl ends (\"on_unknown_key\": \"expire\")")
        }
        unknownKeys += count
    }

    /// Sends one batch; its last calls may still be under way.
    func deliver(
        _ batch: EventBatch, _ versions: CacheEncoder.Versions,
        _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        var start = 0
        while start < batch.events.count {
            let (late, end) = try encoder.incomplete(
                in: batch, from: start, limit: completedMax)
            if late.isEmpty {
                try await send(batch, start..<end, versions, &counts, link)
            } else {
                var next = start
                let rows = try await complete(late, of: batch)
                for index in late {
                    try await send(batch, next..<index, versions, &counts, link)
                    try await sendLate(index, of: batch, rows, versions, &counts, link)
                    next = index + 1
                }
                try await send(batch, next..<end, versions, &counts, link)
            }
            start = end
        }
        try await submit(link)
        try await mendParts(batch, versions, &counts, link)
    }

    /// Sends an event that was completed. When its row is gone, what became of that comes through
    /// the stream; only the key that this very event left is known now and never named again.
    private func sendLate(
        _ index: Int, of batch: EventBatch, _ rows: [UInt32: RowCompletion],
        _ versions: CacheEncoder.Versions, _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        defer { encoder.incompleteRows = .changeInPart }
        var sent = CacheEncoder.Counts()
        let event = batch.events[index]
        if let whole = rows[event.table]?.complete(event, of: batch) {
            encoder.incompleteRows = .takeAsTheyAre
            try await send(whole, 0..<1, versions, &sent, link)
        } else {
            encoder.incompleteRows = .leaveOut
            try await send(batch, index..<(index + 1), versions, &sent, link)
        }
        counts.delivered += 1
        counts.late += 1
        counts.unknownKeys += sent.unknownKeys
    }

    private func send(
        _ batch: EventBatch, _ range: Range<Int>, _ versions: CacheEncoder.Versions,
        _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        if isolation.isOn, range.count > 1 {
            for index in range {
                try await send(batch, index..<(index + 1), versions, &counts, link)
            }
            return
        }
        defer { encoder.shrink() }
        var range = range
        while !range.isEmpty {
            switch try encoder.encode(
                batch, range, versions, countMax: link.keysPerCall, into: &call,
                parts: &link.parts, counts: &counts)
            {
            case .end:
                if isolation.isOn { try await submitAlone(batch, range.lowerBound, link) }
                return
            case .full(let next):
                if isolation.isOn { try await submitAlone(batch, range.lowerBound, link) }
                try await submit(link)
                range = next..<range.upperBound
            case .truncate(let next):
                try await submit(link)
                try await settle(link, downTo: 0)
                let version = try CacheVersion(
                    epoch: versions.epoch, of: batch.events[next - 1], in: batch)
                try await sweep(below: version, link)
                range = next..<range.upperBound
            }
        }
    }

    /// Rows of hashes that turned out to be missing, and so cannot be changed in part.
    private func mendParts(
        _ batch: EventBatch, _ versions: CacheEncoder.Versions,
        _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        guard link.hasParts else { return }
        try await settle(link, downTo: 0)
        let missing = link.takeMissing()
        var start = 0
        while start < missing.count {
            let end = min(start + completedMax, missing.count)
            let rows = try await complete(Array(missing[start..<end]), of: batch)
            for index in missing[start..<end] {
                let unknownKeys = counts.unknownKeys
                try await sendLate(index, of: batch, rows, versions, &counts, link)
                // They were counted when the part was sent.
                counts.delivered -= 1
                counts.unknownKeys = unknownKeys
            }
            start = end
        }
        try await submit(link)
    }

    // MARK: Rows beside the stream

    /// Reads the rows of events the stream did not send whole, by table.
    private func complete(
        _ events: [Int], of batch: EventBatch
    ) async throws(WeirError) -> [UInt32: RowCompletion] {
        let reader = try rows()
        var completions: [UInt32: RowCompletion] = [:]
        var bytes = 0
        for table in Set(events.map { batch.events[$0].table }) {
            let wanted = events.map { batch.events[$0] }.filter { $0.table == table }
            let rows: EventBatch
            do throws(WeirError) {
                rows = try await reader.rows(
                    of: batch.tables[Int(table)], keys: wanted.map(batch.keyBytes(of:)),
                    showing: Array(Set(wanted.map(\.transaction))))
            } catch {
                // Perhaps they are too much for one answer.
                completedMax = max(1, completedMax / 2)
                throw error
            }
            bytes += rows.byteCount
            completions[table] = RowCompletion(rows)
        }
        completedMax =
            bytes > Self.completedBytes
            ? max(1, completedMax / 2) : min(Self.completedMax, completedMax * 2)
        return completions
    }

    func rows() throws(WeirError) -> any RowReader {
        if let rowReader { return rowReader }
        guard let make = context.makeRowReader else {
            throw WeirError(
                .redisNoRowReader, .blocked, "this source cannot be asked for rows",
                hint: ErrorCode.redisNoRowReader.remedy)
        }
        let made = try make()
        rowReader = made
        return made
    }

    // MARK: Calls

    /// Sends the call that was gathered, and waits for earlier ones when too many are under way.
    func submit(_ link: RedisLink) async throws(WeirError) {
        if call.isEmpty { return }
        // A part builds on what the calls before it wrote: none of them may still be refused.
        if !link.parts.isEmpty { try await settle(link, downTo: 0) }
        let count = call.count
        link.submit(&call, lead: config.lead(keys: count, &random))
        try await settle(link, downTo: Self.callsMax - 1)
    }

    /// Waits until at most `count` calls are under way.
    func settle(_ link: RedisLink, downTo count: Int) async throws(WeirError) {
        do {
            try await link.settle(downTo: count)
        } catch {
            throw failed(error)
        }
    }

    func failed(_ error: LinkFailure) -> WeirError { error.weirError(failures) }
}
