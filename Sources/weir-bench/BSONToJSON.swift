import CLibMongoC
import WeirJSON
import WeirTesting
import WeirValues

extension BenchmarkCase {
    static let bsonToJSON = BenchmarkCase(
        name: "bson-json",
        summary: "such a document from BSON to relaxed Extended JSON in memory, beside "
            + "bson_as_relaxed_extended_json",
        run: measureBSONToJSON)
}

private let ratioMin = 5.0
/// Both take these in turn; they fit in the processor's cache.
private let documentCount = 1_000

private func measureBSONToJSON(_ session: Session) throws -> CaseReport {
    let documents = try RenderedDocuments(documentCount)
    try documents.check()
    let passes = max(1, (session.rows ?? 200_000) / documentCount)
    var weir: [Double] = []
    var limit: [Double] = []
    for _ in 0..<session.rounds {
        limit.append(nanoseconds(passes, documents.renderByLibrary))
        weir.append(nanoseconds(passes, documents.renderByWeir))
    }
    let ratios = zip(limit, weir).map { $0 / $1 }
    let figures = [("weir", weir), ("libbson", limit)].flatMap { name, values in
        [
            Figure("\(name) per document", .nanoseconds, median(values)),
            Figure("\(name) per document, least", .nanoseconds, values.min() ?? .nan),
        ]
    }
    return CaseReport(
        name: "bson-json",
        figures: [Figure("weir's speed / libbson's", .ratio, median(ratios), atLeast: ratioMin)]
            + figures + [Figure("documents", .count, Double(passes * documentCount))],
        samples: [
            Samples(name: "weir", unit: .nanoseconds, values: weir),
            Samples(name: "libbson", unit: .nanoseconds, values: limit),
        ])
}

/// What a document takes on average, over so many passes of `render`.
private func nanoseconds(_ passes: Int, _ render: () -> Int) -> Double {
    var bytes = 0
    let start = ContinuousClock.now
    for _ in 0..<passes { bytes += render() }
    let seconds = (ContinuousClock.now - start).inSeconds
    precondition(bytes > 0, "nothing was rendered")
    return seconds * 1e9 / Double(passes * documentCount)
}

/// Documents in memory, as both renderers take them.
@safe
private final class RenderedDocuments {
    private let documents: [OpaquePointer]

    init(_ count: Int) throws {
        unsafe documents = try (0..<count).map { index in
            let bytes = try Products.bson(index)
            let document = unsafe bytes.withUnsafeBufferPointer { bytes in
                unsafe bson_new_from_data(bytes.baseAddress, bytes.count)
            }
            guard let document = unsafe document else { throw TestingError("no BSON document") }
            return unsafe document
        }
    }

    deinit {
        for index in unsafe documents.indices { unsafe bson_destroy(documents[index]) }
    }

    /// Renders each once; returns how many bytes of JSON that made.
    func renderByLibrary() -> Int {
        var bytes = 0
        for index in unsafe documents.indices {
            var length = 0
            let text = unsafe bson_as_relaxed_extended_json(documents[index], &length)
            bytes += length
            unsafe bson_free(text)
        }
        return bytes
    }

    /// As above. The memory is Weir's own from document to document, as it is from event to event.
    func renderByWeir() -> Int {
        let renderer = BSONRenderer(.relaxed)
        var writer = JSONWriter()
        var bytes = 0
        for index in unsafe documents.indices {
            writer.removeAll()
            _ = unsafe renderer.append(document: Self.bytes(of: documents[index]), into: &writer)
            bytes += writer.count
        }
        return bytes
    }

    /// - Throws: when what Weir writes of a document is not read back as that document.
    func check() throws {
        var writer = JSONWriter()
        for index in unsafe documents.indices {
            writer.removeAll()
            _ = unsafe BSONRenderer(.relaxed)
                .append(document: Self.bytes(of: documents[index]), into: &writer)
            let text = unsafe writer.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
            guard let found = unsafe bson_new_from_json(text, -1, nil) else {
                throw TestingError("document \(index) is no Extended JSON: \(text)")
            }
            defer { unsafe bson_destroy(found) }
            guard unsafe bson_equal(found, documents[index]) else {
                throw TestingError("document \(index) is not this: \(text)")
            }
        }
    }

    private static func bytes(of document: OpaquePointer) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(
            start: bson_get_data(document), count: weir_bson_length(document))
    }
}
