import Testing
import WeirCore

@testable import WeirMongoDBSource

struct StreamNoteTests {
    private static let stored = Position(token: "826B01850A00000014AA+")

    @Test func itIsReadAsItIsWritten() {
        for note in [
            StreamNote(stream: "cms.articles", othersEnd: nil),
            StreamNote(stream: "cms.a name with spaces ", othersEnd: Self.stored),
            StreamNote(stream: "deployment", takingOverAt: 7, Self.stored),
        ] { #expect(StreamNote(note.text) == note) }
        #expect(StreamNote("") == nil)
        #expect(StreamNote("826B01850A00000014AA+") == nil)
    }

    @Test func theFirstStreamHasNoPlaceOfAnother() {
        #expect(!StreamNote(stream: "cms", othersEnd: nil).mayBeAnothers(Self.stored))
    }

    @Test func whatTheStreamBeforeHasGivenMayBeAnothers() {
        let now: UInt64 = 0x6B01_850A_0000_0020
        let note = StreamNote(stream: "cms", takingOverAt: now, Self.stored)
        for (token, isAnothers) in [
            ("826B01850A00000014AA+", true), ("826B01850A00000020", true),
            ("826B01850A00000020FFFF+8180", true), ("826B01850A0000002100+", false),
            ("826B01850B00000001AA+", false),
        ] { #expect(note.mayBeAnothers(Position(token: token)) == isAnothers, "\(token)") }
    }

    /// A server that does not tell its time.
    @Test func theStoredPlaceAlwaysIs() {
        let note = StreamNote(stream: "cms", takingOverAt: 0, Self.stored)
        #expect(note.mayBeAnothers(Self.stored))
        #expect(!note.mayBeAnothers(Position(token: "826B01850A00000014AB+")))
    }
}
