import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

/// A file system of a few megabytes with a state directory on it; needs root.
private final class TinyDisk: Sendable {
    private let folder: TemporaryDirectory
    var path: String { folder.file("disk") }
    var directory: StateDirectory { StateDirectory(path + "/state") }

    init(megabytes: Int) throws {
        folder = try TemporaryDirectory()
        try FileManager.default.createDirectory(
            atPath: folder.file("disk"), withIntermediateDirectories: false)
        let mount = try runProcess(
            "mount", ["-t", "tmpfs", "-o", "size=\(megabytes)m", "tmpfs", folder.file("disk")])
        guard mount.status == .exited(0) else { throw TestingError(mount.stderr) }
        try directory.create()
    }

    deinit { _ = try? runProcess("umount", ["-l", path]) }

    /// Leaves nothing for others.
    func fill() {
        _ = try? runProcess(
            "dd", ["if=/dev/zero", "of=\(path)/ballast", "bs=4096", "oflag=append", "conv=notrunc"])
    }

    func empty() throws { try FileManager.default.removeItem(atPath: path + "/ballast") }

    var freeBytes: Int {
        let facts = try? FileManager.default.attributesOfFileSystem(forPath: path)
        return facts?[.systemFreeSize] as? Int ?? -1
    }

    /// Where tests run without the right to mount, others cover the same decisions.
    static let canMount: Bool = {
        guard let probe = try? TinyDisk(megabytes: 1) else { return false }
        return probe.freeBytes > 0
    }()
}

@Suite(.serialized, .enabled(if: TinyDisk.canMount, "no right to mount"))
struct FullDiskTests {
    private func withStore<R>(
        _ disk: TinyDisk, _ body: (StateStore) async throws -> R
    ) async throws -> R {
        let thread = ThreadExecutor(name: "state")
        defer { thread.stop() }
        return try await body(try StateStore(directory: disk.directory, executor: thread))
    }

    private static func row(_ number: Int) -> CheckpointRow {
        CheckpointRow(
            pipeline: "p", sink: "a", position: Position(high: UInt64(number)), mark: nil,
            updatedMicros: 0)
    }

    @Test func checkpointsGoOnWhenTheDiskIsFull() async throws {
        let disk = try TinyDisk(megabytes: 8)
        let reserve = disk.directory.reservePath
        func reserved() throws -> Int {
            try FileManager.default.attributesOfItem(atPath: reserve)[.size] as? Int ?? -1
        }
        try await withStore(disk) { store in
            try await store.save([Self.row(1)])
            #expect(try reserved() == StateReserve.bytes)
            disk.fill()
            #expect(disk.freeBytes == 0)
            // More than the journal's size.
            for number in 2..<600 { try await store.save([Self.row(number)]) }
            #expect(try reserved() == 0)
            #expect(try await store.checkpoints(of: "p").map(\.position) == [Position(high: 599)])
            // With room again, the next beat takes it back.
            try disk.empty()
            try await store.setLastSeen(1)
            #expect(try reserved() == StateReserve.bytes)
        }
    }

    /// The neighbour goes on until the disk is full, nothing fails, and what is there drains by
    /// itself when the sink is back, though the disk stays full.
    @Test(.timeLimit(.minutes(1)))
    func aSpillThatFillsTheDiskIsAFullSpillAndDrains() async throws {
        let disk = try TinyDisk(megabytes: 8)
        let server = ScriptedServer(batchEventsMax: 200)
        let sinks = [SinkDisk(), SinkDisk()]
        let pipeline = TestPipeline(server: server, disks: sinks, queueBytes: 20_000)
        sinks[0].fail(write: (0..<100_000).map { _ in SinkFault.reject(.transient) })
        for _ in 0..<1000 { server.commit(100) }
        let ids = server.ids
        try await withStore(disk) { store in
            let running = Pipeline(
                pipeline.plan(), store: store, directory: disk.directory,
                logger: TestPipeline.logger, pace: TestPipeline.pace)
            func report() -> PipelineReport {
                PipelineReport(running, failures: [], gaps: [], nowMicros: WallClock.micros())
            }
            let task = Task { await running.run(isOnce: false) }
            try await eventually(within: .seconds(30), "the disk is full for the spill") {
                report().problems.contains {
                    $0.code == "engine.spill_full" && $0.component == "a"
                        && $0.message.hasPrefix("the disk of the state directory")
                }
            }
            let reached = sinks[1].kept.count
            #expect(reached > 10_000 && reached < ids.count)
            #expect(report().sinks.map(\.state) == [.spilling, .waiting])
            disk.fill()
            let keepalives = server.keepalives
            try await eventually("the source hears from us") {
                server.keepalives > keepalives + 3
            }
            #expect(report().problems.allSatisfy { $0.code != "state.failed" })
            #expect(sinks[0].kept.isEmpty)

            sinks[0].heal()
            try await eventually(within: .seconds(40), "all is at both") {
                sinks.allSatisfy { $0.kept.count == ids.count }
            }
            #expect(sinks[0].kept == ids && sinks[1].kept == ids)
            for sink in sinks {
                let opens = sink.calls.count { if case .open = $0 { true } else { false } }
                #expect(opens == 1, "nothing went back to a checkpoint")
            }
            try await eventually("all is acknowledged") { server.confirmed == server.head }
            running.stop()
            _ = await task.value
        }
    }
}
