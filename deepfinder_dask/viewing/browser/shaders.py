"""How neuroglancer paints voxels and particles: short GLSL programs whose controls appear in a layer's panel."""

from __future__ import annotations

GREY = """#uicontrol invlerp contrast
#uicontrol bool invert checkbox(default=false)
void main() {
  float grey = contrast();
  emitGrayscale(invert ? 1.0 - grey : grey);
}
"""
"""A tomogram; ``contrast`` has the grey values shown as black and white."""

HEAT = """#uicontrol invlerp score
#uicontrol vec3 colour color(default="COLOUR")
#uicontrol float smallest slider(min=0, max=1, default=0.1)
#uicontrol float opacity slider(min=0, max=1, default=0.8)
void main() {
  float value = score();
  if (value < smallest) {
    emitTransparent();
  } else {
    emitRGBA(vec4(mix(colour, vec3(1.0), 0.6 * value * value), opacity * value));
  }
}
"""
"""Scores over grey values: nothing below ``smallest``, then the colour, brighter and denser with the score."""

SPHERES = """#uicontrol float opacity slider(min=0, max=1, default=0.35)
#uicontrol float smallest_score slider(min=0, max=1, default=0)
void main() {
  if (prop_score() >= 0.0 && prop_score() < smallest_score) discard;
  setEllipsoidFillColor(vec4(prop_colour(), PROJECTION_VIEW ? 1.0 : opacity));
}
"""
"""Particles: discs where a slice cuts their spheres, spheres in 3D; a score below 0 is unknown."""

CENTRES = """#uicontrol float size slider(min=1, max=20, default=6)
#uicontrol float smallest_score slider(min=0, max=1, default=0)
void main() {
  if (prop_score() >= 0.0 && prop_score() < smallest_score) discard;
  setPointMarkerSize(size);
  setPointMarkerColor(vec4(prop_colour(), 1.0));
  setPointMarkerBorderColor(vec4(0.0, 0.0, 0.0, 1.0));
  setPointMarkerBorderWidth(1.0);
}
"""
"""The centres of particles, as dots."""
