import Foundation
import Synchronization
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite struct SpillTests {
    private let folder: TemporaryDirectory
    private var path: String { folder.file("p.a.spill") }

    init() throws { folder = try TemporaryDirectory() }

    private func open(_ stored: Spill.Extent? = nil, written: UInt64 = 8) throws -> Spill {
        try Spill(path: path, stored: stored, written: Position(high: written))
    }

    private func put(_ spill: Spill, _ batches: [EventBatch], memoryHas: Int = 0) throws {
        try #require(try spill.append(batches, memoryHas: memoryHas), "the disk has room")
    }

    private func ids(_ spill: Spill) throws -> [[String]] { try spill.read().map(\.ids) }

    private func isLost(_ body: () throws -> Void) -> Bool {
        do throws(any Error) {
            try body()
            return false
        } catch let error as WeirError {
            return error.code.name == "engine.spill_lost" && error.disposition == .positionLost
        } catch { return false }
    }

    /// Transactions 16, 24 and 32, synced.
    private func filled() throws -> Spill.Extent {
        let spill = try open()
        try put(spill, [16, 24, 32].map { SampleBatch.transaction($0, count: 2) })
        try spill.sync()
        return try #require(spill.extent)
    }

    @Test func givesBackWhatItWasGiven() throws {
        let spill = try open()
        #expect(spill.isFullyRead && spill.extent == nil)
        try put(spill, [SampleBatch.transaction(16, count: 1)])
        try put(spill, [SampleBatch.transaction(24, count: 1)])
        #expect(spill.extent?.end == Position(high: 32))
        #expect(try ids(spill) == [["16/0"], ["24/0"]])
        #expect(spill.isFullyRead)
        #expect(try ids(spill).isEmpty)
        try spill.reset()
        #expect(spill.extent == nil && spill.isFullyRead && spill.isEmpty)
        try put(spill, [SampleBatch.transaction(32, count: 1)])
        #expect(try ids(spill) == [["32/0"]])
    }

    @Test func whatMemoryDeliversItselfIsPassedOver() throws {
        let spill = try open()
        try put(spill, [SampleBatch.transaction(16, count: 1)], memoryHas: 1)
        try put(spill, [SampleBatch.transaction(24, count: 1)])
        #expect(try ids(spill) == [["24/0"]])
    }

    @Test func anExtentEndsAtABoundary() throws {
        let spill = try open()
        try put(spill, [SampleBatch.part(of: 16, 0..<2, isLast: false)])
        #expect(spill.extent == nil)
        try put(spill, [SampleBatch.part(of: 16, 2..<3, isLast: true)])
        let whole = try #require(spill.extent)
        try put(spill, [SampleBatch.part(of: 24, 0..<1, isLast: false)])
        #expect(spill.extent == whole)
        #expect(spill.length > whole.length)
    }

    @Test func anotherLifeReadsWhatTheSinkHasNot() throws {
        let extent = try filled()
        #expect(try ids(open(extent)) == [["16/0", "16/1"], ["24/0", "24/1"], ["32/0", "32/1"]])
        #expect(try ids(open(extent, written: 32)) == [["32/0", "32/1"]])
        #expect(try open(extent, written: 40).isFullyRead)
    }

    /// The sink goes back to its mark, so a transaction it took half of comes again whole.
    @Test func aTransactionInSeveralRecordsComesAgainWhole() throws {
        let first = try open()
        try put(
            first,
            [
                SampleBatch.transaction(16, count: 1),
                SampleBatch.part(of: 24, 0..<2, isLast: false),
                SampleBatch.part(of: 24, 2..<3, isLast: true),
            ])
        let extent = try #require(first.extent)
        #expect(try ids(open(extent, written: 24)) == [["24/0", "24/1"], ["24/2"]])
    }

    @Test func aTailTheCheckpointDoesNotCountOnIsCutOff() throws {
        let extent = try filled()
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.seekToEnd()
        try file.write(contentsOf: Data([1, 2, 3]))
        try file.close()
        let spill = try open(extent)
        #expect(spill.length == extent.length)
        try put(spill, [SampleBatch.transaction(40, count: 1)])
        #expect(try ids(spill).last == ["40/0"])
    }

    @Test func withoutACheckpointTheFileStartsEmpty() throws {
        _ = try filled()
        #expect(try open().isFullyRead)
    }

    @Test func aMissingOrShortFileIsADeclaredLoss() throws {
        let extent = try filled()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        for count in stride(from: 0, to: bytes.count, by: 7) {
            try bytes.prefix(count).write(to: URL(fileURLWithPath: path))
            #expect(isLost { _ = try open(extent) })
        }
        try FileManager.default.removeItem(atPath: path)
        #expect(isLost { _ = try open(extent) })
    }

    @Test func aFlippedBitIsADeclaredLoss() throws {
        let extent = try filled()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        for offset in 0..<bytes.count {
            var flipped = bytes
            flipped[offset] ^= 1 << (offset % 8)
            try flipped.write(to: URL(fileURLWithPath: path))
            #expect(
                isLost {
                    let spill = try open(extent)
                    while try !spill.read().isEmpty {}
                }, "byte \(offset)")
        }
    }

    @Test func aLinkInItsPlaceIsNotFollowed() throws {
        try folder.write("precious", to: "other")
        try FileManager.default.createSymbolicLink(
            atPath: path, withDestinationPath: folder.file("other"))
        #expect(throws: WeirError.self) { try open() }
        #expect(try String(contentsOfFile: folder.file("other"), encoding: .utf8) == "precious")
    }

    @Test func theFileIsForItsOwnerAlone() throws {
        _ = try filled()
        let facts = try FileManager.default.attributesOfItem(atPath: path)
        #expect((facts[.posixPermissions] as? Int) == 0o600)
    }

    // MARK: A full disk

    /// A disk of 8,000 bytes of which a spill may take all but 1,000, but for what others take.
    private func onSmallDisk(taken: @escaping @Sendable () -> Int = { 0 }) throws -> Spill {
        let path = path
        return try Spill(path: path, stored: nil, written: Position(high: 8)) { _ in
            let facts = try? FileManager.default.attributesOfItem(atPath: path)
            return (free: 8000 - taken() - (facts?[.size] as? Int ?? 0), total: 8000)
        }
    }

    @Test func aDiskAtItsFloorTakesNothingAndWhatIsThereStays() throws {
        let spill = try onSmallDisk()
        var count: UInt64 = 0
        while try spill.append([SampleBatch.transaction(16 + 8 * count, count: 1)]) { count += 1 }
        #expect(count > 2 && spill.length <= 7000)
        let (length, extent) = (spill.length, spill.extent)
        // All or nothing, also of several.
        #expect(
            try !spill.append(
                [SampleBatch.boundary(800), SampleBatch.transaction(808, count: 3)], memoryHas: 1))
        #expect(spill.length == length && spill.extent == extent)
        #expect(!spill.hasRoom(for: 1000))
        #expect(try ids(spill) == (0..<count).map { ["\(16 + 8 * $0)/0"] })
        try spill.reset()
        #expect(spill.hasRoom(for: 1000))
        try put(spill, [SampleBatch.transaction(900, count: 1)])
        #expect(try ids(spill) == [["900/0"]])
    }

    @Test func aDiskThatIsFullFromTheStartIsNoObstacle() throws {
        let isFull = Flag()
        isFull.value = true
        let spill = try onSmallDisk { isFull.value ? 8000 : 0 }
        #expect(try !spill.append([SampleBatch.transaction(16, count: 1)], memoryHas: 1))
        #expect(spill.isEmpty && spill.isFullyRead && spill.extent == nil)
        isFull.value = false
        try put(spill, [SampleBatch.transaction(16, count: 1)])
        #expect(try ids(spill) == [["16/0"]])
    }
}

private final class Flag: Sendable {
    private let state = Mutex(false)
    var value: Bool {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}
