import WeirCore
import WeirMongoDBClient
import WeirValues

/// Fills batches from a change stream, and opens the stream again where that mends a failure.
/// Blocks.
struct StreamReader: ~Copyable {
    private let opener: StreamOpener
    private(set) var stream: ChangeStream
    private var decoder: EventDecoder
    /// Events of the batch at hand that wait for their documents.
    private var missing: [EventDecoder.Missing] = []
    /// Where reading goes on if the stream had to begin earlier: what it repeats is left out.
    private var floor: Position?
    private var lookUps = LookUpPace()

    /// - Parameter floor: events before it are left out.
    init(
        _ opener: StreamOpener, _ stream: consuming ChangeStream, decoder: consuming EventDecoder,
        behind floor: Position?
    ) {
        self.opener = opener
        self.stream = stream
        self.decoder = decoder
        self.floor = floor
    }

    var nextSchemaVersion: UInt32 { decoder.nextSchemaVersion }

    /// Everything before it was read.
    var place: Position {
        let here = stream.here.position
        return floor.map { max(here, $0) } ?? here
    }

    /// Reads until the batch is full, or nothing more is waiting; waits once if nothing is.
    ///
    /// Returns whether the batch ends inside a transaction. `place` is where it ends.
    mutating func fill(
        _ batch: inout BatchBuilder, within limit: Duration
    ) throws(WeirError) -> Bool {
        decoder.beginBatch()
        let isSplit = try take(into: &batch, within: limit)
        try lookUp(&batch)
        stream.settle()
        return isSplit
    }

    private mutating func take(
        into batch: inout BatchBuilder, within limit: Duration
    ) throws(WeirError) -> Bool {
        var hasWaited = false
        /// The transaction of the event before, if it had one.
        var open: TransactionTag?
        while true {
            guard let event = try peek() else {
                if batch.isEmpty {
                    if hasWaited { return false }
                    hasWaited = true
                    try fetch(within: limit)
                } else if open != nil || stream.fullness == .oneByOne && !batch.isFull {
                    // A transaction is handed on whole: once one of its events is there, the server
                    // has the others too (CORRECTNESS 60). And pages of one event make a batch. Any
                    // other page is handed on: the next may fail, and this one be lost with it.
                    try fetch(within: .milliseconds(1))
                    guard try peek() != nil else { return false }
                } else {
                    return false
                }
                continue
            }
            if isBeforeFloor(event) {
                stream.take(event)
                continue
            }
            if let open, open.isTag(of: event) {
                if batch.isFarBeyondLimits { return true }
            } else if batch.isFull {
                return false
            }
            if let name = decoder.replaced(by: event) {
                if opener.config.onRename == .stop {
                    if !batch.isEmpty { return false }
                    throw opener.replaced(name, event)
                }
                opener.log(
                    .warning,
                    "another collection was renamed to \"\(name)\"; its documents are not delivered "
                        + "(\"on_rename\": \"continue\")")
            }
            if !(open?.isTag(of: event) ?? false) { open = TransactionTag(event) }
            let outcome = decoder.decode(event, into: &batch)
            stream.take(event)
            if case .withoutDocument(let event) = outcome {
                missing.append(event)
                // What is still to come must not make the batch much larger than it may be.
                if missing.count >= lookUps.count(within: batch.byteLimit) {
                    try lookUp(&batch)
                }
            }
        }
    }

    private mutating func isBeforeFloor(_ event: RawEvent) -> Bool {
        guard let floor else { return false }
        let tail = unsafe String(
            decoding: UnsafeRawBufferPointer(rebasing: event.bytes[event.tail]), as: UTF8.self)
        if Position(high: event.clusterTime, tail: tail) < floor { return true }
        // Events come in order.
        self.floor = nil
        return false
    }

    private mutating func peek() throws(WeirError) -> RawEvent? {
        do throws(StreamFailure) { return try stream.peek() } catch {
            throw opener.failed(error, doing: "read the change stream")
        }
    }

    /// Fetches, and opens the stream once more where that helps; a second failure is the engine's.
    /// One of size is another matter: less is asked for each time.
    private mutating func fetch(within limit: Duration) throws(WeirError) {
        // Behind the change that was too large, documents are asked for again.
        if stream.isBehindTooLarge { try reopen(.images) }
        var isResumed = false
        while true {
            let failure: StreamFailure
            do throws(StreamFailure) {
                try stream.fetch(within: limit)
                return
            } catch {
                failure = error
            }
            if let less = opener.less(than: stream.fullness, after: failure) {
                try reopen(less)
                continue
            }
            guard !isResumed, opener.isMended(failure) else {
                throw opener.failed(failure, doing: "read the change stream")
            }
            isResumed = true
            try reopen(.images)
        }
    }

    private mutating func reopen(_ fullness: ChangeStream.Fullness) throws(WeirError) {
        var last = try opener.reopen(at: stream.here, fullness)
        swap(&stream, &last)
        // Its server would keep the cursor for ten minutes.
        last.close()
    }

    private mutating func lookUp(_ batch: inout BatchBuilder) throws(WeirError) {
        guard !missing.isEmpty else { return }
        do throws(MongoFailure) {
            let largest = try DocumentLookup(connection: stream.connection)
                .fill(missing, in: &batch)
            lookUps.took(missing.count, largest: largest)
        } catch {
            throw opener.failures.error(error, doing: "look documents up")
        }
        missing.removeAll(keepingCapacity: true)
    }
}

/// How many documents to look up at a time, so that a batch stays about within its bytes: as many
/// as would be within them if all were as large as the largest seen lately. Pure.
struct LookUpPace {
    private var most = 4
    private var largest = 1024

    /// Enough that a round trip costs little per document.
    private static let mostMax = 100

    func count(within bytes: Int) -> Int { max(1, min(most, bytes / largest)) }

    /// - Parameters:
    ///   - count: how many were looked up.
    ///   - largest: bytes of the largest of them.
    mutating func took(_ count: Int, largest: Int) {
        // Nothing is known before the first documents; a large one is forgotten slowly.
        most = min(Self.mostMax, max(most, 2 * count))
        self.largest = max(256, largest, self.largest - self.largest / 16)
    }
}

/// Which transaction an event belongs to, kept beyond the event.
private struct TransactionTag {
    let session: [UInt8]
    let number: Int64
    let clusterTime: UInt64

    /// Nil for an event of none.
    init?(_ event: RawEvent) {
        guard let session = event.session else { return nil }
        self.session = unsafe Array(UnsafeRawBufferPointer(rebasing: event.bytes[session]))
        number = event.transactionNumber
        clusterTime = event.clusterTime
    }

    func isTag(of event: RawEvent) -> Bool {
        guard let other = event.session, number == event.transactionNumber,
            clusterTime == event.clusterTime
        else { return false }
        return unsafe session.elementsEqual(UnsafeRawBufferPointer(rebasing: event.bytes[other]))
    }
}

extension BatchBuilder {
    /// A transaction that is larger than this is handed on in parts.
    fileprivate var isFarBeyondLimits: Bool {
        eventCount >= 4 * eventLimit || arenaCount >= 16 * byteLimit
    }
}
