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
    private var rowReader: (any RowReader)?

    /// The newest change delivered, or where the checkpoint stood at the start.
    var delivered: CacheVersion
    /// The newest up to a boundary: what the checkpoint keeps.
    private var boundary: CacheVersion
    /// The marker as the server has confirmed it; nil before the first checkpoint of a pipeline.
    private var marker: CacheMarker?
    /// Why rows must be read again before anything else is written, and whether that was said.
    private var loss: (reason: String, isReported: Bool)?
    var recent = RecentTransactions()
    /// When a marker is compared next though nothing is written.
    private var nextCheck = ContinuousClock.now

    private static let checkInterval = Duration.seconds(1)
    /// Calls under way: enough that Redis never waits for us.
    private static let callsMax = 4
    /// Rows read beside the stream at once: each may be large.
    private static let completedMax = 64

    package init(_ config: RedisSinkConfig, _ context: ConnectorContext) {
        self.config = config
        self.context = context
        eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        encoder = CacheEncoder(config)
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
        if let mark {
            guard let stored = CacheMarker(parsing: mark.text) else {
                throw WeirError(.bug, .bug, "the stored mark \"\(mark.text)\" is no version")
            }
            if delivered < stored.version { delivered = stored.version }
            marker = marker ?? stored
            boundary = delivered
        }
        do throws(WeirError) {
            let link = try await ready()
            return SinkMark(CacheMarker(boundary, run: link.run).text)
        } catch {
            abandon()
            throw error
        }
    }

    package func close() async {
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
            let verdict = CacheMarker.judge(
                found: try await read(markerOf: link), expected: marker, epoch: context.epoch(),
                run: link.run, isEvicting: link.isEvicting)
            try await act(on: verdict, link)
            self.link = link
        }
        if let expected = marker, expected.version.epoch < context.epoch(), loss == nil {
            try await act(on: .moved, link)
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

    private func act(
        on verdict: CacheMarker.Verdict, _ link: RedisLink
    ) async throws(WeirError) {
        let place = config.options.url.place
        switch verdict {
        case .intact: break
        case .new: try await set(CacheMarker(delivered, run: link.run), link)
        case .evicted:
            context.log(.warning, "Redis at \(place) evicts keys, Weir's marker among them")
            try await set(CacheMarker(delivered, run: link.run), link)
        case .lost(let reason):
            guard config.onDataLoss != .stop else { throw dataLost(reason, .blocked) }
            loss = loss ?? (reason, false)
        case .moved:
            // Versions of the new epoch are newer than all there are.
            delivered = max(delivered, .start(of: context.epoch()))
            boundary = delivered
            // Nothing was lost by Redis: this is no error, and only said.
            loss = ("the pipeline's position was moved", true)
        case .foreign:
            throw WeirError(
                .redisOtherWriter, .blocked,
                "Redis at \(place) holds a newer epoch of this sink than the state store",
                detail: "Another Weir writes there, or this state directory is an old copy.",
                hint: ErrorCode.redisOtherWriter.remedy)
        }
    }

    private func dataLost(_ reason: String, _ disposition: Disposition) -> WeirError {
        let tables = config.tables.map(\.description).joined(separator: ", ")
        return WeirError(
            .redisDataLost, disposition,
            "Redis at \(config.options.url.place) lost what it had acknowledged: \(reason)",
            detail: config.onDataLoss == .reread ? "All rows of \(tables) are read again." : nil,
            hint: disposition == .blocked
                ? "weir position set \(context.pipeline) confirmed --yes goes on with what is there."
                : nil)
    }

    /// Brings back what was lost, then says so at the server.
    private func mend(_ link: RedisLink) async throws(WeirError) {
        guard let loss else { return }
        if !loss.isReported {
            self.loss?.isReported = true
            // The engine counts and shows it, and comes back.
            throw dataLost(loss.reason, .transient)
        }
        if config.onDataLoss == .reread {
            let tables = config.tables.map(\.description).joined(separator: ", ")
            context.log(.warning, "reading all rows of \(tables) again: \(loss.reason)")
            let rows = try await reread(link)
            context.log(.info, "read \(rows) rows again")
        } else {
            context.log(.warning, "going on with what Redis holds: \(loss.reason)")
        }
        try await set(CacheMarker(delivered, run: link.run), link)
        self.loss = nil
    }

    // MARK: Writing

    package func write(_ batches: [EventBatch]) async throws(WeirError) -> WriteOutcome {
        do throws(WeirError) {
            return try await deliver(batches)
        } catch {
            abandon()
            guard error.code == .redisScriptsGone else { throw error }
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
    private func abandon() {
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
                newest = CacheVersion(epoch: versions.epoch, of: last)
                recent.add(batch)
                try await deliver(batch, versions, &counts, link)
            }
            if batch.resume != nil {
                boundary = newest
                hasBoundary = true
            }
        }
        if newest != delivered || ContinuousClock.now >= nextCheck {
            nextCheck = .now + Self.checkInterval
            try await advanceMarker(to: CacheMarker(newest, run: link.run), link)
        }
        bytes = link.sentBytes - before
        delivered = newest
        self.boundary = boundary
        return WriteOutcome(
            .durable, delivered: counts.delivered, filtered: counts.filtered, late: counts.late,
            bytes: bytes,
            mark: hasBoundary ? SinkMark(CacheMarker(boundary, run: link.run).text) : nil)
    }

    /// Sends one batch; its last calls may still be under way.
    func deliver(
        _ batch: EventBatch, _ versions: CacheEncoder.Versions,
        _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        var start = 0
        while start < batch.events.count {
            let (late, end) = try encoder.incomplete(
                in: batch, from: start, limit: Self.completedMax)
            if late.isEmpty {
                try await send(batch, start..<end, versions, &counts, link)
            } else {
                var next = start
                for (index, whole) in try await complete(late, of: batch) {
                    try await send(batch, next..<index, versions, &counts, link)
                    try await sendLate(index, of: batch, whole, versions, &counts, link)
                    next = index + 1
                }
                try await send(batch, next..<end, versions, &counts, link)
            }
            start = end
        }
        try await submit(link)
        try await mendParts(batch, versions, &counts, link)
    }

    /// Sends an event that was completed. When its row is gone, what became of that comes through the
    /// stream; only the key that this very event left is known now and never named again.
    private func sendLate(
        _ index: Int, of batch: EventBatch, _ whole: EventBatch?,
        _ versions: CacheEncoder.Versions, _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        defer { encoder.incompleteRows = .changeInPart }
        var sent = CacheEncoder.Counts()
        if let whole {
            encoder.incompleteRows = .takeAsTheyAre
            try await send(whole, 0..<1, versions, &sent, link)
        } else {
            encoder.incompleteRows = .leaveOut
            try await send(batch, index..<(index + 1), versions, &sent, link)
        }
        counts.delivered += 1
        counts.late += 1
    }

    private func send(
        _ batch: EventBatch, _ range: Range<Int>, _ versions: CacheEncoder.Versions,
        _ counts: inout CacheEncoder.Counts, _ link: RedisLink
    ) async throws(WeirError) {
        var range = range
        while !range.isEmpty {
            switch try encoder.encode(
                batch, range, versions, countMax: link.keysPerCall, into: &call,
                parts: &link.parts, counts: &counts)
            {
            case .end: return
            case .full(let next):
                try await submit(link)
                range = next..<range.upperBound
            case .truncate(let next):
                try await submit(link)
                try await settle(link, downTo: 0)
                try await sweep(below: versions.version(of: batch.events[next - 1]), link)
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
            let end = min(start + Self.completedMax, missing.count)
            for (index, whole) in try await complete(Array(missing[start..<end]), of: batch) {
                try await sendLate(index, of: batch, whole, versions, &counts, link)
                // It was counted when the part was sent.
                counts.delivered -= 1
            }
            start = end
        }
        try await submit(link)
    }

    // MARK: Rows beside the stream

    /// Reads the rows of events the stream did not send whole.
    private func complete(
        _ events: [Int], of batch: EventBatch
    ) async throws(WeirError) -> [(index: Int, whole: EventBatch?)] {
        let reader = try rows()
        var completions: [UInt32: RowCompletion] = [:]
        for table in Set(events.map { batch.events[$0].table }) {
            let wanted = events.map { batch.events[$0] }.filter { $0.table == table }
            let rows = try await reader.rows(
                of: batch.tables[Int(table)], keys: wanted.map(batch.keyBytes(of:)),
                showing: Array(Set(wanted.map(\.transaction))))
            completions[table] = RowCompletion(rows)
        }
        return events.map { index in
            let event = batch.events[index]
            return (index, completions[event.table]?.complete(event, of: batch))
        }
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

    // MARK: Marker

    private var markerKey: String { "weir:{\(context.pipeline)/\(context.name)}" }

    private func read(markerOf link: RedisLink) async throws(WeirError) -> CacheMarker? {
        do {
            return try await link.command(["GET", markerKey]).text.flatMap(
                CacheMarker.init(parsing:))
        } catch {
            throw failed(error)
        }
    }

    private func set(_ marker: CacheMarker, _ link: RedisLink) async throws(WeirError) {
        do {
            _ = try await link.command(["SET", markerKey, marker.text])
        } catch {
            throw failed(error)
        }
        self.marker = marker
    }

    /// Sets the marker behind everything sent before it, and looks at what it was.
    private func advanceMarker(
        to new: CacheMarker, _ link: RedisLink
    ) async throws(WeirError) {
        let was: CacheMarker?
        do {
            was = try await link.advance(marker: markerKey, to: new.text).text.flatMap(
                CacheMarker.init(parsing:))
        } catch {
            throw failed(error)
        }
        let verdict = CacheMarker.judge(
            found: was, expected: marker, epoch: context.epoch(), run: link.run,
            isEvicting: link.isEvicting)
        if case .evicted = verdict {
            marker = new
            return
        }
        if verdict != .intact { try await act(on: verdict, link) }
        if loss != nil { try await mend(link) }
        marker = new
    }
}
