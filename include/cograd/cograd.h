/* cograd.h - the whole public interface, in reading order. */
#ifndef COG_H
#define COG_H

#define COG_VERSION "0.1.0"

#include "cograd/status.h"
#include "cograd/device.h"
#include "cograd/data.h"
#include "cograd/model.h"
#include "cograd/code.h"
#include "cograd/analysis.h"
#include "cograd/bounds.h"
#include "cograd/encoder.h"
#include "cograd/engine.h"

#endif
