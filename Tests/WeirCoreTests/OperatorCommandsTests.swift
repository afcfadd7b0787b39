import Testing
import WeirCore

@Suite struct OperatorCommandsTests {
    private let commands = OperatorCommands(
        configuration: "/etc/a file.json", stateDirectory: "/var/w")
    private let options = "-c '/etc/a file.json' --state-dir /var/w"

    @Test func whatNeedsTheDaemonStoppedStopsAndStartsIt() {
        let hint = "Declare the gap: weir position set shop now --yes. Or: weir drop shop --yes"
        let stop = "weir stop --state-dir /var/w; "
        let start = "; weir start \(options)"
        #expect(
            commands.completed(hint, besideDaemon: true)
                == "Declare the gap: \(stop)weir position set shop now --yes \(options)\(start). "
                + "Or: weir drop shop --yes \(options)")
        #expect(
            commands.completed(hint, besideDaemon: false)
                == "Declare the gap: weir position set shop now --yes \(options). "
                + "Or: weir drop shop --yes \(options)")
    }

    @Test func whatSaysWhenToStopKeepsItsOrder() {
        #expect(
            commands.completed(
                "weir stop; weir position set p 0/1 --yes; weir start. That loses.",
                besideDaemon: true)
                == "weir stop --state-dir /var/w; weir position set p 0/1 --yes \(options); "
                + "weir start \(options). That loses.")
    }

    @Test func whatRunsBesideADaemonIsNotWrapped() {
        #expect(
            commands.completed("Do it; then: weir gap resolve 12", besideDaemon: true)
                == "Do it; then: weir gap resolve 12 \(options)")
        #expect(
            commands.completed("x. Then: weir gap resolve ID. For changes", besideDaemon: true)
                == "x. Then: weir gap resolve ID \(options). For changes")
    }

    @Test func defaultsAndProseStayAsTheyAre() {
        let plain = OperatorCommands()
        for text in [
            "weir gap resolve 1", "weir stop; weir start", "weir status shows how much.",
            "behind this change after weir position set.", "", "weir ", "overweir stop",
        ] {
            #expect(plain.completed(text, besideDaemon: true) == text)
        }
        #expect(
            commands.completed("Then: weir gap resolve 1.\nx: weir start.", besideDaemon: true)
                == "Then: weir gap resolve 1 \(options)\nx: weir start \(options)")
        #expect(
            plain.completed("weir position set p now --yes goes on", besideDaemon: true)
                == "weir stop; weir position set p now --yes; weir start goes on")
        for text in ["weir stop --state-dir /a", "weir position set.", "weir explain x.y", "weird"]
        {
            #expect(commands.completed(text, besideDaemon: true) == text)
        }
    }
}
