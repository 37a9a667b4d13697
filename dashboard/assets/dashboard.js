// what only the browser can do or know
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  bitfront: {
    // names the tab after the page; returns whether many points can be drawn by WebGL
    arrive: function (path) {
      var parts = (path || "/").split("/");
      var name = "";
      try {
        name = parts[1] === "study" ? decodeURIComponent(parts[2] || "") : "";
      } catch (error) {
        // a path that is not well quoted names no study
      }
      var trial = name && parts[3] === "trial" ? " #" + parts[4] : "";
      document.title = name ? name + trial + " · bitfront" : "bitfront";
      var canvas = document.createElement("canvas");
      return Boolean(window.WebGLRenderingContext && canvas.getContext("webgl"));
    },
    // brings what a click opens into view, where it is not
    reveal: function (point, cell) {
      var panel = document.getElementById("network");
      if (panel && (point || cell)) {
        panel.scrollIntoView({ block: "nearest" });
      }
    },
  },
});
