import Testing
import WeirCore
import WeirTesting

@testable import WeirMongoDBSource

struct StreamNoteTests {
    private static let stored = Position(token: "826B01850A00000014AA+")

    @Test func itIsReadAsItIsWritten() {
        for note in [
            StreamNote(stream: "cms.articles", othersEnd: nil),
            StreamNote(stream: "cms.a name with spaces ", othersEnd: Self.stored),
            StreamNote(stream: "deployment", takingOverAt: 7, Self.stored, from: nil),
            StreamNote(stream: "deployment", takingOverAt: .max, Self.stored, from: nil),
        ] { #expect(StreamNote(note.text) == note) }
        // As the version before wrote it.
        #expect(
            StreamNote("826B01850A00000014AA+ cms.articles")
                == StreamNote(stream: "cms.articles", othersEnd: Self.stored))
        #expect(StreamNote("") == nil)
        #expect(StreamNote("826B01850A00000014AA+") == nil)
    }

    @Test func theFirstStreamHasNoPlaceOfAnother() {
        #expect(!StreamNote(stream: "cms", othersEnd: nil).mayBeAnothers(Self.stored))
    }

    @Test func whatTheStreamBeforeHasGivenMayBeAnothers() {
        let now: UInt64 = 0x6B01_850A_0000_0020
        let note = StreamNote(stream: "cms", takingOverAt: now, Self.stored, from: nil)
        for (token, isAnothers) in [
            ("826B01850A00000014AA+", true), ("826B01850A00000020", true),
            ("826B01850A00000020FFFF+8180", true), ("826B01850A0000002100+", false),
            ("826B01850B00000001AA+", false),
        ] { #expect(note.mayBeAnothers(Position(token: token)) == isAnothers, "\(token)") }
    }

    /// Another sink may still stand at a later place of a stream before the last.
    @Test func whatMayHaveBeenAnothersStaysSo() {
        let first = StreamNote(
            stream: "cms", takingOverAt: 0x6B01_850A_0000_0020, Self.stored, from: nil)
        let earlier = StreamNote(
            stream: "cms.articles", takingOverAt: 0x6B01_850A_0000_0010, Self.stored, from: first)
        #expect(earlier.othersEnd == first.othersEnd)
        let later = StreamNote(
            stream: "cms", takingOverAt: 0x6B01_850A_0000_0030, Self.stored, from: earlier)
        #expect(later.mayBeAnothers(Position(token: "826B01850A0000003000+")))
    }

    /// Sinks may be ahead of the least place, which is all that is known here.
    @Test func theStoredPlaceMayAlwaysBeAnothers() {
        let note = StreamNote(stream: "cms", takingOverAt: 7, Self.stored, from: nil)
        #expect(note.mayBeAnothers(Self.stored))
        #expect(!note.mayBeAnothers(Position(token: "826B01850A00000014AB+")))
    }
}
