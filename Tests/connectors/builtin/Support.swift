import Foundation
import WeirCore
import WeirJSON
import WeirTesting

@testable import WeirBuiltinSink

/// The checked configuration of a sink, as the loader would hand it over.
func scope(_ values: [String: ConfigValue]) -> ConfigScope {
    ConfigScope(pipeline: "test", name: "sink", values: ConfigValues(values))
}

/// Errors of the sinks, by what a test asks of them.
func failure(_ body: () async throws -> Void) async -> WeirError? {
    do { try await body() } catch { return error as? WeirError }
    return nil
}

/// The ids of the events in lines of the format `weir`. Every line must be whole, valid JSON.
func ids(ofLines text: String) throws -> [String] {
    guard text.isEmpty || text.hasSuffix("\n") else { throw TestingError("a torn line at the end") }
    return try text.split(separator: "\n").map { line in
        let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        let key = object?["key"] as? [String: Any]
        guard let id = key?["id"] as? String else { throw TestingError("no id in: \(line)") }
        return id
    }
}

/// A file sink in a folder of its own.
struct FileBench: Sendable {
    let folder: TemporaryDirectory
    var path: String { folder.file("changes.jsonl") }

    /// What the engine keeps for the sink over its lives.
    let notes = MemoryNotes()
    let reports = CollectedReports()
    let log = LogLines()

    init() throws { folder = try TemporaryDirectory() }

    func make(format: String = "weir", path: String? = nil) throws -> FileSink {
        FileSink(
            try FileSink.Config(
                scope(["path": .string(path ?? self.path), "format": .string(format)])),
            .test(notes: notes, reports: reports, log: log))
    }

    /// The length that a mark holds.
    func length(_ mark: SinkMark?) -> Int? {
        mark?.text.split(separator: " ").first.flatMap { Int($0) }
    }

    func text() throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

    /// Without the part that a crash may leave half written.
    func ids() throws -> [String] { try BuiltinTests.ids(ofLines: text()) }

    func size() throws -> Int { try Data(contentsOf: URL(fileURLWithPath: path)).count }
}
