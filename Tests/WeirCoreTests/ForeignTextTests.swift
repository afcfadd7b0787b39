import Testing
import WeirCore

struct ForeignTextTests {
    @Test func aHarmlessTextStaysEqual() {
        for text in ["", "relation \"shop.ü\" does not exist", "日本語 🙂", "100% … \\x1b"] {
            #expect(ForeignText.visible(text) == text)
        }
    }

    @Test(arguments: [
        ("a\u{1B}[2Jb", "a<U+001B>[2Jb"), ("a\r\nb\n\nc", "a; b; c"), ("a:\n\t b\tc", "a:; b c"),
        ("\u{0}\u{7F}", "<U+0000><U+007F>"),
        ("\u{85}\u{9B}m", "<U+0085><U+009B>m"), ("\u{202E}x\u{2066}", "<U+202E>x<U+2066>"),
        ("\u{2028}\u{FEFF}\u{E0041}", "<U+2028><U+FEFF><U+E0041>"),
    ])
    func whatActsIsShown(text: String, shown: String) {
        #expect(ForeignText.visible(text) == shown)
        #expect(ForeignText.visible(shown) == shown)
    }

    @Test func aLongTextIsCutBetweenCharacters() {
        for text in ["x", "ü", "🙂", "\u{1B}"] {
            let shown = ForeignText.visible(String(repeating: text, count: 100_000))
            #expect(shown.utf8.count <= ForeignText.bytesMax + 32)
            #expect(shown.utf8.count >= ForeignText.bytesMax)
            #expect(shown.hasSuffix("(cut)"))
            #expect(ForeignText.visible(shown) == shown, "cut once")
        }
    }
}
