import Glibc
import WeirCore
import WeirPostgresClient

// The copy stream of START_REPLICATION (manual, "Streaming Replication Protocol").
//
//   server → us   'w' │ start LSN 8 │ end LSN 8 │ clock 8 │ one pgoutput message
//                 'k' │ end LSN 8 │ clock 8 │ reply requested 1
//   us → server   'r' │ written 8 │ flushed 8 │ applied 8 │ clock 8 │ reply requested 1

extension PostgresSource.Stream {
    private static let headerBytes = 25

    /// A batch that is full ends at the next boundary, so that most batches can be resumed after;
    /// one this many times over its limit ends inside its transaction.
    private static let overfill = 1.25

    /// A full batch is a few of these; they take about a tenth of a millisecond.
    private static let messagesPerClockRead = 1024

    /// Fills `batch` until nothing more is waiting, it is full, or the limit has passed.
    mutating func read(
        into batch: inout BatchBuilder, within limit: Duration, _ failures: FailureMap
    ) throws(WeirError) {
        decoder.beginBatch()
        let wasInside = decoder.openTransaction != nil
        let deadline = ContinuousClock.now + limit
        do throws(PostgresFailure) {
            let handOver = ContinuousClock.now + GatherPace.handOver
            while true {
                let before = batch.eventCount
                let isDrained = try drain(into: &batch, until: min(deadline, nextStatus))
                if decoder.hasNewShape, !batch.isEmpty { return }
                let now = ContinuousClock.now
                if isDrained { silence.looked(at: now) }
                if now >= nextStatus { try sendStatus(at: now) }
                if now >= deadline || Task.isCancelled { return }
                guard isDrained else { continue }
                pace.found(batch.eventCount - before, at: now)
                if pace.isGathering, !batch.isFull, now < min(handOver, deadline) {
                    usleep(GatherPace.pauseMicroseconds)
                    continue
                }
                // The server sends whole transactions: the rest of one is on its way, and a sink
                // that shows it as a whole waits for its end.
                let isInside = decoder.openTransaction != nil && !batch.isFull
                if !isInside, !batch.isEmpty || wasInside || decoder.sawMarker { return }
                try wait(until: min(deadline, nextStatus), from: now)
            }
        } catch {
            if let refusal { throw refusal }
            throw failures.error(
                error, reading: decoder.openTransaction.map { LSN($0.commit) })
        }
    }

    /// Closes a batch with the positions that belong to it.
    func seal(_ builder: consuming BatchBuilder) -> EventBatch {
        let open = decoder.openTransaction
        let here = Position(high: open?.commit ?? resume.value, low: open?.ordinal ?? 0)
        // After a reconnect inside a transaction reading stands at `start` until the server has
        // sent that far again. Invariant 2: neither of the two goes back.
        // A transaction of which nothing was read yet is sent again as a whole.
        let boundary = open.map { $0.ordinal == 0 ? Position(high: resume.value) : nil } ?? here
        return builder.seal(
            resume: boundary.flatMap { $0 >= start ? $0 : nil }, end: max(here, start))
    }

    /// Decodes what has arrived, without waiting, until the batch is full.
    ///
    /// - Returns: false when time was up first, as it is in a long stretch of changes that are left
    ///   out (invariant 7).
    private mutating func drain(
        into batch: inout BatchBuilder, until deadline: ContinuousClock.Instant
    ) throws(PostgresFailure) -> Bool {
        let hardLimit = Int(Double(batch.byteLimit) * Self.overfill)
        var count = 0
        while true {
            // A batch has each table with the same columns: what lies before can be delivered
            // though a sink cannot go on with the new ones.
            if decoder.hasNewShape {
                if !batch.isEmpty { return true }
                decoder.beginShape()
            }
            if batch.isFull {
                let isHard =
                    batch.arenaCount >= hardLimit || batch.eventCount >= 2 * batch.eventLimit
                if isHard || decoder.openTransaction == nil { return true }
            }
            count += 1
            if count % Self.messagesPerClockRead == 0, ContinuousClock.now >= deadline {
                return false
            }
            if let message = try replication.nextCopyMessage() {
                silence.hasHeard = true
                try handle(message, &batch)
                continue
            }
            try replication.consumeInput()
            guard let message = try replication.nextCopyMessage() else { return true }
            silence.hasHeard = true
            try handle(message, &batch)
        }
    }

    private enum Followup {
        case nothing, reply
        case install(RelationMessage)
    }

    private mutating func handle(
        _ message: borrowing CopyMessage, _ batch: inout BatchBuilder
    ) throws(PostgresFailure) {
        largestMessage = max(largestMessage, unsafe message.bytes.count)
        let followup: Followup
        do throws(MalformedBytes) {
            followup = try unsafe decode(message.bytes, &batch)
        } catch {
            if let table = decoder.tableWithoutKey { refuse(table) }
            throw PostgresFailure(
                .statement, "the server sent a message Weir does not understand: \(error)",
                sqlState: "08P01")
        }
        switch followup {
        case .nothing: return
        // With the next look at the clock: a server that asks in each message gets one answer.
        case .reply: nextStatus = min(nextStatus, .now)
        case .install(let relation): try install(relation)
        }
    }

    private mutating func decode(
        _ bytes: UnsafeRawBufferPointer, _ batch: inout BatchBuilder
    ) throws(MalformedBytes) -> Followup {
        var reader = unsafe ByteReader(bytes)
        switch try reader.readByte() {
        case UInt8(ascii: "w"):
            let start = try reader.readLSN()
            _ = try reader.skip(Self.headerBytes - 9)
            received = max(received, start)
            let body = unsafe UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes...])
            switch try unsafe decoder.decode(body, change: start.value, into: &batch) {
            case .nothing: return .nothing
            case .boundary(let lsn):
                resume = max(resume, lsn)
                received = max(received, lsn)
                return .nothing
            case .relation(let relation): return .install(relation)
            }
        case UInt8(ascii: "k"):
            let end = try reader.readLSN()
            _ = try reader.readInteger(UInt64.self)
            received = max(received, end)
            // CORRECTNESS 6: everything before the end was sent, so an idle source moves on.
            if decoder.openTransaction == nil { resume = max(resume, end) }
            return try reader.readByte() == 1 ? .reply : .nothing
        default: throw MalformedBytes("unknown kind of stream message", at: 0)
        }
    }

    /// CORRECTNESS 24: the relation does not say what its primary key is; the catalogue does.
    private mutating func install(_ relation: RelationMessage) throws(PostgresFailure) {
        let condition = CatalogueTable.isNumbered(relation.oid)
        let rows = try sql.query(
            CatalogueTable.query(where: condition, serverVersion: sql.serverVersion),
            columns: CatalogueTable.columnCount)
        // CORRECTNESS 30, 74: a partition writes old rows after its own identity.
        let leaves =
            rows.first?[4] == "p" ? try sql.query(LeafIdentity.query(where: condition)) : []
        let now = CatalogueTable.tables(rows, leaves: leaves).first
        try checkName(of: relation, now)
        if let now, let leaf = now.misfit, tables.sendsOldRows,
            tables.memory.table(now.name) != nil
        {
            refusal = PublicationPlan.misfit(leaf, of: now)
            throw PostgresFailure(.statement, "partitions without a common key")
        }
        decoder.install(relation, table: now, memory: tables.memory.table(numbered: relation.oid))
    }

    /// CORRECTNESS 76: the description has the name of its time, the catalogue that of now.
    private mutating func checkName(
        of relation: RelationMessage, _ now: CatalogueTable?
    ) throws(PostgresFailure) {
        let name = TableName(schema: relation.schema, name: relation.name)
        let isGoneOn: Bool
        if let wanted = tables.followed[relation.oid] {
            // Under an older name is fine. Renamed since streaming began, or even swapped, is not
            // for us to judge in the middle of a stream.
            isGoneOn = name != wanted && now?.name != wanted
        } else if tables.memory.table(name) != nil,
            !tables.memory.known(name).contains(relation.oid)
        {
            isGoneOn = now?.name == name
            if !isGoneOn { strangers.insert(name) }
        } else {
            return
        }
        guard isGoneOn else { return }
        let wanted = tables.followed[relation.oid] ?? name
        refusal = WeirError(
            .tableChanged, .transient,
            "table \"\(wanted)\" was renamed, dropped or replaced while Weir was streaming")
        throw PostgresFailure(.statement, "table changed")
    }

    /// CORRECTNESS 74: a partition with another identity than its root's wrote the row.
    private mutating func refuse(_ schema: TableSchema) {
        let name = TableName(schema: schema.schema, name: schema.name)
        let next = decoder.openTransaction.map { LSN($0.commit).next.description } ?? "now"
        refusal = WeirError(
            .partitionIdentity, .blocked,
            "an old row of \"\(name)\" came without its key: a partition with another replica "
                + "identity than the others wrote it",
            detail: ErrorCode.partitionIdentity.remedy,
            hint: "Then go on behind that transaction, without its changes: weir position set "
                + "\(pipeline) \(next) --yes")
    }

    // MARK: Feedback

    /// CORRECTNESS 5, 8: only what is durable everywhere counts as flushed.
    mutating func sendStatus(
        at now: ContinuousClock.Instant = .now
    ) throws(PostgresFailure) {
        nextStatus = now + statusInterval
        let written = max(received, durable)
        var message: [UInt8] = [UInt8(ascii: "r")]
        for number in [written.value, durable.value, durable.value, Self.serverClock()] {
            unsafe withUnsafeBytes(of: number.bigEndian) { unsafe message.append(contentsOf: $0) }
        }
        message.append(silence.asks(at: now) ? 1 : 0)
        try replication.sendCopyMessage(message)
    }

    /// Microseconds since 2000-01-01, as the protocol wants them; the server only shows them.
    private static func serverClock() -> UInt64 {
        var now = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &now)
        let micros = (now.tv_sec - 946_684_800) * 1_000_000 + now.tv_nsec / 1000
        return UInt64(bitPattern: Int64(micros))
    }

    /// CORRECTNESS 9: the ordinary connection ends first when the server shuts down.
    func checkServerStays() throws(PostgresFailure) {
        if !sql.isAlive() {
            throw PostgresFailure(
                .connection,
                "the server closed our ordinary connection, as it does when it shuts down")
        }
    }

    /// Waits until either connection has something to say, in slices that notice cancelling.
    private func wait(
        until deadline: ContinuousClock.Instant, from start: ContinuousClock.Instant
    ) throws(PostgresFailure) {
        let left = max(.zero, start.duration(to: deadline))
        var items = [
            pollfd(fd: replication.descriptor, events: Int16(POLLIN), revents: 0),
            pollfd(fd: sql.descriptor, events: Int16(POLLIN), revents: 0),
        ]
        let ready = unsafe poll(&items, 2, Int32(min(100, left.milliseconds + 1)))
        if ready > 0, items[1].revents != 0 { try checkServerStays() }
    }
}
