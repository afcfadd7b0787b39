import Foundation
import Testing
import WeirCore
import WeirTesting

@testable import WeirEngine

@Suite struct SpillTests {
    private let folder: TemporaryDirectory
    private var path: String { folder.file("p.a.spill") }

    init() throws { folder = try TemporaryDirectory() }

    private func open(_ stored: Spill.Extent? = nil, written: UInt64 = 8) throws -> Spill {
        try Spill(path: path, stored: stored, written: Position(commit: written))
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
        try spill.append([16, 24, 32].map { SampleBatch.transaction($0, count: 2) })
        try spill.sync()
        return try #require(spill.extent)
    }

    @Test func givesBackWhatItWasGiven() throws {
        let spill = try open()
        #expect(spill.isFullyRead && spill.extent == nil)
        try spill.append([SampleBatch.transaction(16, count: 1)])
        try spill.append([SampleBatch.transaction(24, count: 1)])
        #expect(spill.extent?.end == Position(commit: 32))
        #expect(try ids(spill) == [["16/0"], ["24/0"]])
        #expect(spill.isFullyRead)
        #expect(try ids(spill).isEmpty)
        try spill.reset()
        #expect(spill.extent == nil && spill.isFullyRead && spill.isEmpty)
        try spill.append([SampleBatch.transaction(32, count: 1)])
        #expect(try ids(spill) == [["32/0"]])
    }

    @Test func whatMemoryDeliversItselfIsPassedOver() throws {
        let spill = try open()
        try spill.append([SampleBatch.transaction(16, count: 1)])
        spill.skipToEnd()
        try spill.append([SampleBatch.transaction(24, count: 1)])
        #expect(try ids(spill) == [["24/0"]])
    }

    @Test func anExtentEndsAtABoundary() throws {
        let spill = try open()
        try spill.append([SampleBatch.part(of: 16, 0..<2, isLast: false)])
        #expect(spill.extent == nil)
        try spill.append([SampleBatch.part(of: 16, 2..<3, isLast: true)])
        let whole = try #require(spill.extent)
        try spill.append([SampleBatch.part(of: 24, 0..<1, isLast: false)])
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
        try first.append([
            SampleBatch.transaction(16, count: 1), SampleBatch.part(of: 24, 0..<2, isLast: false),
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
        try spill.append([SampleBatch.transaction(40, count: 1)])
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
}
